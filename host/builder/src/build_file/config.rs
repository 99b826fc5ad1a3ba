//! The container configuration.

use super::{
    Checker, Located,
    plan::Particular,
    schema::{self, NoTable},
    values::{Written, parse_duration},
};
use crate::parse_size;
use kiln_image::{
    config::{ContainerConfig, Extra, Healthcheck, Set},
    manifest::Dialect,
};
use toml::Spanned;

impl Checker<'_> {
    pub(super) fn config(&self, config: &schema::Config) -> Result<ContainerConfig, Located> {
        for variable in &config.env {
            if variable.get_ref().find('=').is_none_or(|at| at == 0) {
                return Err(self.wrong(variable, "a variable is written NAME=value"));
            }
        }
        if let Some(directory) = &config.working_dir
            && !directory.get_ref().starts_with('/')
        {
            return Err(self.wrong(directory, "a working directory begins with /"));
        }
        let env: Vec<_> = config.env.iter().map(|variable| variable.get_ref().clone()).collect();
        let volumes = config.volumes.0.iter().map(|volume| volume.get_ref().clone()).collect();
        let healthcheck = config.healthcheck.as_ref().map(|check| self.healthcheck(check.get_ref()));
        let written = ContainerConfig {
            user: config.user.clone(),
            exposed_ports: set(self.ports(&config.exposed_ports.0)?),
            env: Some(env).filter(|env| !env.is_empty()),
            entrypoint: config.entrypoint.clone(),
            cmd: config.cmd.clone(),
            volumes: set(volumes),
            working_dir: config.working_dir.as_ref().map(|directory| directory.get_ref().clone()),
            labels: Some(config.labels.clone()).filter(|labels| !labels.is_empty()),
            stop_signal: config.stop_signal.clone(),
            stop_timeout: self.at_least(config.stop_timeout.as_ref(), 0)?,
            healthcheck: healthcheck.transpose()?,
            shell: config.shell.as_ref().map(|shell| shell.get_ref().clone()),
            on_build: config.on_build.as_ref().map(|triggers| triggers.get_ref().clone()),
            ..ContainerConfig::default()
        };
        Ok(with_keys(written, self.limits(config)?))
    }

    /// What only docker knows.
    pub(super) fn of_docker(&self, config: &schema::Config) -> Vec<Particular> {
        let spans = [
            ("Healthcheck", config.healthcheck.as_ref().map(Spanned::span)),
            ("Shell", config.shell.as_ref().map(Spanned::span)),
            ("OnBuild", config.on_build.as_ref().map(Spanned::span)),
            ("StopTimeout", config.stop_timeout.as_ref().map(Spanned::span)),
            ("Memory", config.memory.as_ref().map(Spanned::span)),
            ("MemorySwap", config.memory_swap.as_ref().map(Spanned::span)),
            ("CpuShares", config.cpu_shares.as_ref().map(Spanned::span)),
        ];
        let given = spans.into_iter().filter_map(|(key, span)| Some((key, span?)));
        let refusal =
            |key, span| self.at(&span, format!("`{key}` is docker's; OCI images have no such option"));
        given
            .map(|(key, span)| Particular { dialect: Dialect::Docker, refusal: refusal(key, span) })
            .collect()
    }

    fn ports(&self, ports: &[Spanned<String>]) -> Result<Vec<String>, Located> {
        ports.iter().map(|port| self.parsed(port, parse_port)).collect()
    }

    fn healthcheck(&self, check: &schema::Healthcheck) -> Result<Healthcheck, Located> {
        if let Some(test) = &check.test {
            self.test(test)?;
        }
        Ok(Healthcheck {
            test: check.test.as_ref().map(|test| test.get_ref().clone()),
            interval: self.duration(check.interval.as_ref())?,
            timeout: self.duration(check.timeout.as_ref())?,
            start_period: self.duration(check.start_period.as_ref())?,
            start_interval: self.duration(check.start_interval.as_ref())?,
            retries: self.at_least(check.retries.as_ref(), 0)?,
            ..Healthcheck::default()
        })
    }

    fn test(&self, test: &Spanned<Vec<String>>) -> Result<(), Located> {
        match test.get_ref().iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] | ["NONE"] | ["CMD-SHELL", _] | ["CMD", _, ..] => Ok(()),
            _ => {
                let message = "a test is [\"NONE\"], [\"CMD\", PROGRAM, ...] or [\"CMD-SHELL\", COMMAND]";
                Err(self.wrong(test, message))
            }
        }
    }

    /// A text with units, or nanoseconds. docker takes nothing between 0 and a millisecond.
    fn duration(&self, value: Option<&Spanned<Written<NoTable>>>) -> Result<Option<i64>, Located> {
        const MILLISECOND: i64 = 1_000_000;
        let Some(value) = value else { return Ok(None) };
        let nanoseconds = match value.get_ref() {
            Written::Text(text) => parse_duration(text).map_err(|message| self.wrong(value, message))?,
            Written::Number(number) => *number,
            _ => return Err(self.wrong(value, "a duration is a text such as \"30s\", or nanoseconds")),
        };
        if nanoseconds != 0 && nanoseconds < MILLISECOND {
            return Err(self.wrong(value, "a duration is 0 or at least 1ms"));
        }
        Ok(Some(nanoseconds))
    }

    fn limits(&self, config: &schema::Config) -> Result<Extra, Located> {
        let mut extra = Extra::new();
        let limits = [
            ("Memory", self.bytes(config.memory.as_ref(), 0)?),
            // -1: as much swap as there is.
            ("MemorySwap", self.bytes(config.memory_swap.as_ref(), -1)?),
            ("CpuShares", self.at_least(config.cpu_shares.as_ref(), 0)?),
        ];
        for (key, value) in limits {
            extra.extend(value.map(|value| (key.to_owned(), value.into())));
        }
        Ok(extra)
    }

    fn bytes(&self, value: Option<&Spanned<Written<NoTable>>>, least: i64) -> Result<Option<i64>, Located> {
        let Some(value) = value else { return Ok(None) };
        let bytes = match value.get_ref() {
            Written::Text(text) => parse_size(text)
                .and_then(|size| i64::try_from(size).map_err(|_| format!("`{text}` is too much")))
                .map_err(|message| self.wrong(value, message))?,
            Written::Number(number) if *number >= least => *number,
            _ => return Err(self.wrong(value, "a size is a text such as \"512MiB\", or bytes")),
        };
        Ok(Some(bytes))
    }

    fn at_least(&self, value: Option<&Spanned<i64>>, least: i64) -> Result<Option<i64>, Located> {
        match value {
            Some(value) if *value.get_ref() < least => {
                Err(self.wrong(value, format!("this is at least {least}")))
            }
            value => Ok(value.map(|value| *value.get_ref())),
        }
    }
}

/// Sets keys as JSON, whether they have fields of their own or not.
fn with_keys(config: ContainerConfig, keys: Extra) -> ContainerConfig {
    if keys.is_empty() {
        return config;
    }
    let mut json = serde_json::to_value(config).expect("maps with text keys only");
    json.as_object_mut().expect("a configuration is an object").extend(keys);
    serde_json::from_value(json).expect("numbers where numbers are meant")
}

/// A set as the specification's JSON has it; `None` if empty.
fn set(names: Vec<String>) -> Option<Set> {
    let empty_objects = names.into_iter().map(|name| (name, serde_json::json!({})));
    Some(empty_objects.collect()).filter(|set: &Set| !set.is_empty())
}

/// `80`, `80/tcp` or `8000-8010/udp`; the protocol is `tcp` if not given.
fn parse_port(text: &str) -> Result<String, String> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    if !is_port(first) || !is_port(last) || !["tcp", "udp", "sctp"].contains(&protocol) {
        return Err(format!("`{text}` is no port; write it like 80/tcp"));
    }
    Ok(format!("{range}/{protocol}"))
}
