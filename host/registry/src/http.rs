//! One request and its answer, redirects followed.

use crate::certificates;
use crate::error::Error;
use crate::settings::Settings;
use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::Mutex;
use std::time::Duration;
use ureq::http::{HeaderMap, Method, Request, Uri, header};
use ureq::{Agent, BodyReader, SendBody};

/// Redirects after which it is a loop; as Go's client.
const REDIRECTS_MAX: usize = 10;
/// Until a connection stands, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// What registries see in their logs.
const USER_AGENT: &str = concat!("kiln/", env!("CARGO_PKG_VERSION"));

/// Bytes to be sent, as often as need be.
pub(crate) struct Outgoing<'a> {
    pub content_type: &'a str,
    pub length: u64,
    pub open: &'a dyn Fn() -> io::Result<Box<dyn Read + Send>>,
}

/// What is asked.
pub(crate) struct Call<'a> {
    pub method: Method,
    pub url: String,
    pub headers: Vec<(header::HeaderName, String)>,
    pub body: Option<Outgoing<'a>>,
    /// The body is for the host that is asked, and for no other.
    pub is_secret: bool,
}

impl Call<'_> {
    pub fn new(method: Method, url: String) -> Self {
        Self { method, url, headers: Vec::new(), body: None, is_secret: false }
    }

    #[must_use]
    pub fn header(mut self, name: header::HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// An answer, whatever its status.
pub(crate) struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: BodyReader<'static>,
    /// Where it came from in the end.
    pub url: String,
}

impl Response {
    /// A header's value, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body, at most so many bytes of it, and whether that was all.
    pub fn read(&mut self, limit: u64) -> io::Result<(Vec<u8>, bool)> {
        let mut bytes = Vec::new();
        (&mut self.body).take(limit + 1).read_to_end(&mut bytes)?;
        let is_all = bytes.len() as u64 <= limit;
        bytes.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((bytes, is_all))
    }
}

/// No answer.
#[derive(Debug)]
pub(crate) struct Failure {
    /// For people.
    pub problem: String,
    /// Whether the next try may end otherwise.
    pub is_passing: bool,
}

/// Connections, kept by host.
#[derive(Debug)]
pub(crate) struct Http {
    idle_timeout: Duration,
    agents: Mutex<HashMap<(String, bool), Agent>>,
}

impl Http {
    pub fn new(settings: &Settings) -> Self {
        Self { idle_timeout: settings.idle_timeout, agents: Mutex::default() }
    }

    /// Asks and follows redirects. `authorization` goes to the host that was asked, and to no other.
    pub fn send(
        &self,
        call: &Call,
        authorization: Option<&str>,
        settings: &Settings,
        verify: bool,
    ) -> Result<Response, SendError> {
        let mut url = call.url.clone();
        let mut visited = vec![url.clone()];
        loop {
            let own = authorization.filter(|_| origin(&url) == origin(&call.url));
            let response = self.send_once(call, &url, own, settings, verify)?;
            let Some(target) = redirect(&response, &call.method) else { return Ok(response) };
            url = resolve(&url, &target).ok_or_else(|| {
                permanent(format!("it redirects to {:?}, which is no URL", without_query(&target)))
            })?;
            if call.url.starts_with("https:") && !url.starts_with("https:") && verify {
                return Err(permanent(format!("it redirects to {}, without TLS", without_query(&url))).into());
            }
            if call.is_secret && origin(&url) != origin(&call.url) {
                let shown = without_query(&url);
                return Err(permanent(format!("it redirects to {shown}, which is not told secrets")).into());
            }
            if visited.contains(&url) || visited.len() > REDIRECTS_MAX {
                return Err(permanent(format!("it redirects in a loop, by {}", without_query(&url))).into());
            }
            visited.push(url.clone());
        }
    }

    fn send_once(
        &self,
        call: &Call,
        url: &str,
        authorization: Option<&str>,
        settings: &Settings,
        verify: bool,
    ) -> Result<Response, SendError> {
        let agent = self.agent(&host_of(url), settings, verify)?;
        let mut request = Request::builder().method(call.method.clone()).uri(url);
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let broken = |error: ureq::http::Error| permanent(error.to_string());
        let sent = match &call.body {
            None => agent.run(request.body(()).map_err(broken)?),
            Some(body) => {
                let inner = (body.open)().map_err(SendError::Source)?;
                let mut reader = Watched { inner, failure: None };
                let request = request
                    .header(header::CONTENT_TYPE, body.content_type)
                    .header(header::CONTENT_LENGTH, body.length);
                let request = request.body(SendBody::from_reader(&mut reader)).map_err(broken)?;
                let sent = agent.run(request);
                if let Some(failure) = reader.failure {
                    return Err(SendError::Source(failure));
                }
                sent
            }
        };
        let (parts, body) = sent.map_err(classify)?.into_parts();
        let (status, headers) = (parts.status.as_u16(), parts.headers);
        Ok(Response { status, headers, body: body.into_reader(), url: url.to_owned() })
    }

    fn agent(&self, host: &str, settings: &Settings, verify: bool) -> Result<Agent, SendError> {
        let mut agents = self.agents.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(agent) = agents.get(&(host.to_owned(), verify)) {
            return Ok(agent.clone());
        }
        let tls = certificates::tls_config(settings, host, verify).map_err(SendError::Setup)?;
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(USER_AGENT)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_read(Some(self.idle_timeout))
            .timeout_per_write(Some(self.idle_timeout))
            .timeout_recv_response(Some(self.idle_timeout))
            .max_idle_connections_per_host(16)
            .build();
        let agent = config.new_agent();
        agents.insert((host.to_owned(), verify), agent.clone());
        Ok(agent)
    }
}

/// Keeps the error of what is to be sent, which the HTTP library takes for one of the network.
struct Watched {
    inner: Box<dyn Read + Send>,
    failure: Option<io::Error>,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.failure = Some(error);
            }
            kind.into()
        })
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The network or the other side.
    Failure(Failure),
    /// The bytes to be sent.
    Source(io::Error),
    /// Certificates.
    Setup(Error),
}

impl From<Failure> for SendError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

fn permanent(problem: String) -> Failure {
    Failure { problem, is_passing: false }
}

/// What a library's error means here.
fn classify(error: ureq::Error) -> Failure {
    let text = crate::printable(&deepest(&error));
    // What rustls says of bytes that are no TLS.
    let is_plain = text.contains("InvalidContentType");
    let is_certificate = text.contains("certificate") || text.contains("CertificateError");
    let is_passing = match error {
        ureq::Error::Io(_)
        | ureq::Error::Timeout(_)
        | ureq::Error::ConnectionFailed
        | ureq::Error::BodyStalled
        | ureq::Error::HostNotFound
        | ureq::Error::Protocol(_) => !is_plain && !is_certificate,
        _ => false,
    };
    let problem = match error {
        _ if is_plain => "the registry does not speak TLS; --tls-verify=false allows plain HTTP".to_owned(),
        _ if is_certificate => {
            format!("{text}; put its authority into certs.d (see --cert-dir), or say --tls-verify=false")
        }
        ureq::Error::HostNotFound => "there is no host of this name".to_owned(),
        ureq::Error::Timeout(_) => "nothing came for too long".to_owned(),
        _ => text,
    };
    Failure { problem, is_passing }
}

/// The message of the innermost cause, which says most.
fn deepest(error: &ureq::Error) -> String {
    let mut current: &dyn std::error::Error = error;
    while let Some(source) = current.source() {
        current = source;
    }
    let text = current.to_string();
    text.strip_prefix("io: ").map_or(text.clone(), str::to_owned)
}

/// Where an answer sends the caller, if anywhere.
fn redirect(response: &Response, method: &Method) -> Option<String> {
    let is_safe = matches!(*method, Method::GET | Method::HEAD);
    match response.status {
        301..=303 if is_safe => response.header("location").map(str::to_owned),
        307 | 308 => response.header("location").map(str::to_owned),
        _ => None,
    }
}

/// A `Location` against the URL it came from. <https://datatracker.ietf.org/doc/html/rfc3986#section-5>
pub(crate) fn resolve(base: &str, location: &str) -> Option<String> {
    let location = location.split('#').next().unwrap_or_default();
    let uri: Uri = base.parse().ok()?;
    let resolved = if location.starts_with("https://") || location.starts_with("http://") {
        location.to_owned()
    } else if location.split('/').next().is_some_and(|first| first.contains(':')) {
        // Another scheme.
        return None;
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{}://{rest}", uri.scheme_str()?)
    } else if location.starts_with('/') {
        format!("{}://{}{location}", uri.scheme_str()?, uri.authority()?)
    } else {
        let directory = uri.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{}://{}{directory}/{location}", uri.scheme_str()?, uri.authority()?)
    };
    let parsed: Uri = resolved.parse().ok()?;
    parsed.authority().map(|_| resolved)
}

/// Scheme, host and port.
pub(crate) fn origin(url: &str) -> Option<(String, String)> {
    let uri: Uri = url.parse().ok()?;
    Some((uri.scheme_str()?.to_owned(), uri.authority()?.host().to_owned() + &port(&uri)))
}

fn port(uri: &Uri) -> String {
    let default = if uri.scheme_str() == Some("http") { 80 } else { 443 };
    format!(":{}", uri.port_u16().unwrap_or(default))
}

/// Host, and port if written.
pub(crate) fn host_of(url: &str) -> String {
    let uri: Option<Uri> = url.parse().ok();
    uri.and_then(|uri| uri.authority().map(|authority| authority.as_str().to_owned())).unwrap_or_default()
}

/// For messages: what follows a `?` may be secret.
pub(crate) fn without_query(url: &str) -> String {
    crate::printable(url.split('?').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        for (location, expected) in [
            ("https://b/x?y=1", Some("https://b/x?y=1")),
            ("//b/x", Some("http://b/x")),
            ("/x?y#z", Some("http://a:5000/x?y")),
            ("x", Some("http://a:5000/v2/x")),
            ("https://", None),
            ("ftp://b/x", None),
        ] {
            assert_eq!(resolve("http://a:5000/v2/n?q", location).as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn origins_are_compared_with_their_ports() {
        assert_eq!(origin("https://a/x"), origin("https://a:443/y"));
        assert_ne!(origin("https://a/x"), origin("http://a/x"));
        assert_ne!(origin("https://a/x"), origin("https://a:5000/x"));
        assert_ne!(origin("https://a/x"), origin("https://b/x"));
    }
}
