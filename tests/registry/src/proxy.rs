//! A proxy in front of a plain registry that does to requests and answers what networks and servers do.
//!
//! HTTP/1.1 as far as registries' clients need it: one request for each connection.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Action {
    /// This status, with these lines of headers, and nothing of the registry.
    Answer {
        /// Such as 503.
        status: u16,
        /// `Name: value`, each; `{address}` is the proxy's own.
        headers: Vec<String>,
        /// The body.
        body: String,
    },
    /// The answer's body ends after so many bytes.
    Cut(usize),
    /// The request's body is cut after so many bytes, and nobody answers.
    CutRequest(usize),
    /// So many bytes of the body at a time, with a pause between.
    Drip(usize, Duration),
    /// So many bytes of the body, and then nothing, with the connection open.
    Stall(usize),
    /// `Content-Length` is by this much another.
    Length(i64),
    /// This byte of the body is another.
    Flip(usize),
    /// A header of the answer is another.
    Header(&'static str, String),
    /// `Range` does not reach the registry, which therefore sends all.
    IgnoreRange,
}

/// Which requests something happens to.
#[derive(Debug, Clone)]
pub struct Rule {
    /// `GET`; any if empty.
    pub method: &'static str,
    /// What the path and query contain.
    pub path: String,
    /// How often.
    pub times: usize,
    /// What happens.
    pub action: Action,
}

impl Rule {
    /// The first so many requests of a method whose path contains this.
    pub fn new(method: &'static str, path: impl Into<String>, times: usize, action: Action) -> Self {
        Self { method, path: path.into(), times, action }
    }
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Method and target: `GET /v2/`.
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Seen {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A running proxy. It ends with the test's process.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    address: String,
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
    is_over: AtomicBool,
}

impl Proxy {
    /// In front of `upstream`, `localhost:5000`.
    ///
    /// # Panics
    /// When there is no port.
    pub fn start(upstream: &str, rules: impl Into<Vec<Rule>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it has an address").port();
        let shared = Arc::new(Shared {
            upstream: upstream.replace("localhost", "127.0.0.1"),
            address: format!("localhost:{port}"),
            rules: Mutex::new(rules.into()),
            seen: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                // A client that goes away is what is tested here.
                thread::spawn(move || shared.serve(&client).map_err(drop));
            }
        });
        Self { port, shared }
    }

    /// As references have it.
    pub fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Requests so far, in their order.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect("no test panics with it").clone()
    }

    /// How many requests so far begin with this: `GET /v2/app/blobs/`.
    pub fn count(&self, line: &str) -> usize {
        self.seen().iter().filter(|seen| seen.line.starts_with(line)).count()
    }

    /// Adds a rule.
    pub fn add(&self, rule: Rule) {
        self.shared.rules.lock().expect("no test panics with it").push(rule);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// A request or an answer up to its body.
struct Head {
    line: String,
    headers: Vec<(String, String)>,
}

impl Head {
    fn read(from: &mut impl BufRead) -> io::Result<Self> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if from.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let headers = lines.iter().skip(1).filter_map(|line| line.split_once(':'));
        let headers =
            headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
        Ok(Self { line: lines.first().cloned().unwrap_or_default(), headers })
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn set(&mut self, name: &str, value: impl Into<String>) {
        self.remove(name);
        self.headers.push((name.to_owned(), value.into()));
    }

    fn remove(&mut self, name: &str) {
        self.headers.retain(|(known, _)| known != name);
    }

    fn length(&self) -> Option<usize> {
        self.header("content-length")?.parse().ok()
    }

    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut text = format!("{}\r\n", self.line);
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        to.write_all(format!("{text}\r\n").as_bytes())
    }
}

impl Shared {
    fn serve(&self, client: &TcpStream) -> io::Result<()> {
        let mut from_client = BufReader::new(client);
        let mut request = Head::read(&mut from_client)?;
        let seen = Seen {
            line: request.line.trim_end_matches(" HTTP/1.1").to_owned(),
            headers: request.headers.clone(),
        };
        let action = self.action(&seen.line);
        self.seen.lock().expect("no test panics with it").push(seen);
        let mut body = vec![0; request.length().unwrap_or(0)];
        match &action {
            Some(Action::CutRequest(count)) => {
                let count = (*count).min(body.len());
                from_client.read_exact(&mut body[..count])?;
                return client.shutdown(Shutdown::Both);
            }
            _ => from_client.read_exact(&mut body)?,
        }
        if let Some(Action::Answer { status, headers, body }) = &action {
            return self.answer(client, *status, headers, body);
        }
        if matches!(action, Some(Action::IgnoreRange)) {
            request.remove("range");
        }
        let is_head = request.line.starts_with("HEAD");
        let (answer, body) = self.forward(request, &body, is_head)?;
        respond(client, answer, body, action, is_head)
    }

    /// The first rule that has not been used up.
    fn action(&self, line: &str) -> Option<Action> {
        let mut rules = self.rules.lock().expect("no test panics with it");
        let rule = rules
            .iter_mut()
            .find(|rule| rule.times > 0 && line.starts_with(rule.method) && line.contains(&rule.path))?;
        rule.times -= 1;
        Some(rule.action.clone())
    }

    fn answer(&self, mut client: &TcpStream, status: u16, headers: &[String], body: &str) -> io::Result<()> {
        let headers: String =
            headers.iter().map(|line| format!("{}\r\n", line.replace("{address}", &self.address))).collect();
        write!(
            client,
            "HTTP/1.1 {status} Fault\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    }

    fn forward(&self, mut request: Head, body: &[u8], is_head: bool) -> io::Result<(Head, Vec<u8>)> {
        request.set("connection", "close");
        // So that the registry's own URLs lead through here.
        request.set("host", self.address.clone());
        let upstream = TcpStream::connect(&self.upstream)?;
        let mut to_upstream = &upstream;
        request.write(&mut to_upstream)?;
        to_upstream.write_all(body)?;
        let mut from_upstream = BufReader::new(&upstream);
        let mut answer = Head::read(&mut from_upstream)?;
        let mut bytes = Vec::new();
        if !is_head {
            if answer.header("transfer-encoding").is_some_and(|value| value == "chunked") {
                bytes = read_chunks(&mut from_upstream)?;
                answer.remove("transfer-encoding");
                answer.set("content-length", bytes.len().to_string());
            } else {
                let limit = answer.length().map_or(u64::MAX, |length| length as u64);
                from_upstream.take(limit).read_to_end(&mut bytes)?;
            }
        }
        answer.set("connection", "close");
        Ok((answer, bytes))
    }
}

fn read_chunks(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
        let start = bytes.len();
        bytes.resize(start + size, 0);
        from.read_exact(&mut bytes[start..])?;
        from.read_line(&mut String::new())?;
        if size == 0 {
            return Ok(bytes);
        }
    }
}

fn respond(
    mut client: &TcpStream,
    mut answer: Head,
    mut body: Vec<u8>,
    action: Option<Action>,
    is_head: bool,
) -> io::Result<()> {
    match &action {
        Some(Action::Length(by)) => {
            let length = i64::try_from(body.len()).expect("short") + by;
            answer.set("content-length", length.max(0).to_string());
        }
        Some(Action::Flip(at)) if !body.is_empty() => {
            let at = at % body.len();
            body[at] ^= 0x20;
        }
        Some(Action::Header(name, value)) => answer.set(&name.to_ascii_lowercase(), value.clone()),
        _ => {}
    }
    answer.write(&mut client)?;
    if is_head {
        return Ok(());
    }
    match action {
        Some(Action::Cut(count)) => {
            client.write_all(&body[..count.min(body.len())])?;
            client.shutdown(Shutdown::Both)
        }
        Some(Action::Stall(count)) => {
            client.write_all(&body[..count.min(body.len())])?;
            thread::sleep(Duration::from_secs(3600));
            Ok(())
        }
        Some(Action::Drip(count, pause)) => {
            for piece in body.chunks(count.max(1)) {
                client.write_all(piece)?;
                thread::sleep(pause);
            }
            Ok(())
        }
        _ => client.write_all(&body),
    }
}
