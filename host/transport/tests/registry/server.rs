//! Debian's `docker-registry`, started for a test and stopped after it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Longest start.
const PATIENCE: Duration = Duration::from_secs(20);

/// A registry with an empty directory, without TLS or passwords.
pub struct Server {
    child: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Server {
    /// Starts it.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // The registry cannot say which port it got: one that was free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = directory.path().join("config.yml");
        let storage = directory.path().join("storage");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {:?}}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\"}}\n",
            storage
        );
        fs::write(&config, text).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run docker-registry (is it installed?): {e}"));
        let server = Self { child, port, _directory: directory };
        server.wait();
        server
    }

    fn wait(&self) {
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(begin.elapsed() < PATIENCE, "docker-registry does not listen");
            sleep(Duration::from_millis(20));
        }
    }

    /// `docker://` and a name in it.
    pub fn reference(&self, name: &str) -> String {
        format!("docker://localhost:{}/{name}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
