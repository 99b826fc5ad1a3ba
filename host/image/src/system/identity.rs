//! Other things in an image that are one machine's own, each taken out when it is declared.

use super::Removal;

/// What may be in an image by having been booted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// Seeds of random numbers, which must not be two machines'.
    RandomSeed,
    /// Addresses that DHCP once gave.
    DhcpLeases,
    /// What cloud-init remembers of its instance, so that it runs anew.
    CloudInit,
    /// Names of network interfaces by the addresses of their cards.
    NetworkNames,
    /// The key that systemd encrypts credentials with, and NetworkManager's of stable addresses.
    HostSecrets,
    /// The name by which iSCSI targets know the machine.
    IscsiInitiator,
}

impl Identity {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::RandomSeed,
        Self::DhcpLeases,
        Self::CloudInit,
        Self::NetworkNames,
        Self::HostSecrets,
        Self::IscsiInitiator,
    ];

    /// How it is declared.
    pub fn name(self) -> &'static str {
        match self {
            Self::RandomSeed => "random-seed",
            Self::DhcpLeases => "dhcp-leases",
            Self::CloudInit => "cloud-init",
            Self::NetworkNames => "network-names",
            Self::HostSecrets => "host-secrets",
            Self::IscsiInitiator => "iscsi-initiator",
        }
    }

    /// The files that go.
    pub fn removals(self) -> Vec<Removal> {
        let places: &[(&'static str, &'static str)] = match self {
            Self::RandomSeed => &[
                ("var/lib/systemd", "random-seed"),
                ("var/lib/urandom", "random-seed"),
                ("var/lib/misc", "random-seed"),
                ("var/lib", "random-seed"),
                ("boot/loader", "random-seed"),
                ("boot/efi/loader", "random-seed"),
                ("efi/loader", "random-seed"),
            ],
            Self::DhcpLeases => &[
                ("var/lib/dhcp", "*.lease*"),
                ("var/lib/dhclient", "*.lease*"),
                ("var/lib/dhcpcd", "*.lease*"),
                ("var/lib/dhcpcd5", "*.lease*"),
                ("var/lib/NetworkManager", "*.lease*"),
            ],
            Self::CloudInit => &[
                ("var/lib/cloud", "instance"),
                ("var/lib/cloud", "instances"),
                ("var/lib/cloud", "data"),
                ("var/lib/cloud", "sem"),
                ("var/log", "cloud-init*.log"),
            ],
            Self::NetworkNames => &[
                ("etc/udev/rules.d", "70-persistent-net.rules"),
                ("etc/udev/rules.d", "75-persistent-net-generator.rules"),
            ],
            Self::HostSecrets => {
                &[("var/lib/systemd", "credential.secret"), ("var/lib/NetworkManager", "secret_key")]
            }
            Self::IscsiInitiator => &[("etc/iscsi", "initiatorname.iscsi")],
        };
        places.iter().map(|(directory, name)| Removal { directory, name }).collect()
    }
}
