//! A request with all that belongs to it: authentication, and tries until it succeeds.

use crate::challenge::{self, Challenge};
use crate::credentials;
use crate::endpoint::Endpoint;
use crate::error::{Attempts, Error, Kind};
use crate::http::{Call, Failure, Http, Response, SendError, origin, without_query};
use crate::http_date;
use crate::settings::Settings;
use crate::token::{self, Tokens};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use ureq::http::Method;

/// Statuses that pass: too early, too many, or the server's own trouble.
const PASSING: [u16; 7] = [408, 425, 429, 500, 502, 503, 504];
/// No `Retry-After` is waited for longer, and no wait doubles beyond.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Bytes of an error's body that are looked at.
const MESSAGE_LIMIT: u64 = 16 << 10;

/// What is allowed to be done to a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    pub path: String,
    pub actions: &'static str,
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "repository:{}:{}", self.path, self.actions)
    }
}

/// Asks registries.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub settings: Settings,
    http: Http,
    tokens: Tokens,
    /// Servers asked before: `https` or `http`.
    schemes: Mutex<HashMap<String, &'static str>>,
}

impl Exchange {
    pub fn new(settings: Settings) -> Self {
        let http = Http::new(&settings);
        Self { settings, http, tokens: Tokens::default(), schemes: Mutex::default() }
    }

    /// The URL of something of an endpoint's API: `blobs/sha256:...` of its repository.
    pub fn url(&self, endpoint: &Endpoint, rest: &str) -> String {
        format!("{}://{}/v2/{}/{rest}", self.scheme(endpoint), endpoint.server(), endpoint.path)
    }

    /// TLS, unless it need not be and is not there.
    fn scheme(&self, endpoint: &Endpoint) -> &'static str {
        if endpoint.verify {
            return "https";
        }
        let known = |schemes: &Mutex<HashMap<String, &'static str>>| {
            let schemes = schemes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            schemes.get(endpoint.server()).copied()
        };
        if let Some(scheme) = known(&self.schemes) {
            return scheme;
        }
        let probe = Call::new(Method::GET, format!("https://{}/v2/", endpoint.server()));
        let scheme = match self.http.send(&probe, None, &self.settings, false) {
            Err(SendError::Failure(_)) => "http",
            _ => "https",
        };
        let mut schemes = self.schemes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        schemes.insert(endpoint.server().to_owned(), scheme);
        scheme
    }

    /// Asks until there is an answer that stays, and gives it if it is a success or one of the statuses `accepted`.
    ///
    /// # Errors
    /// With the last problem when tries are used up, or when another would end the same.
    pub fn ask(
        &self,
        endpoint: &Endpoint,
        call: &Call,
        scopes: &[Scope],
        accepted: &[u16],
    ) -> Result<Response, Error> {
        self.ask_times(endpoint, call, scopes, accepted, self.settings.retries)
    }

    /// The same with another number of retries.
    pub fn ask_times(
        &self,
        endpoint: &Endpoint,
        call: &Call,
        scopes: &[Scope],
        accepted: &[u16],
        retries: u32,
    ) -> Result<Response, Error> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (problem, wait) = match self.attempt(endpoint, call, scopes) {
                Ok(response) if response.status < 400 || accepted.contains(&response.status) => {
                    return Ok(response);
                }
                Ok(mut response) => {
                    let wait = PASSING.contains(&response.status).then(|| retry_after(&response));
                    (status_error(call, &mut response, attempts), wait)
                }
                Err(AttemptError::Failure(failure)) => {
                    let wait = failure.is_passing.then_some(None);
                    (connection_error(call, failure, attempts), wait)
                }
                Err(AttemptError::Final(error)) => return Err(error),
            };
            let Some(asked_for) = wait.filter(|_| attempts <= retries) else { return Err(problem) };
            let wait = asked_for.unwrap_or_else(|| self.backoff(attempts)).min(WAIT_MAX);
            self.settings.notify.say(&format!("{problem}; trying again in {:.1} s", wait.as_secs_f64()));
            std::thread::sleep(wait);
        }
    }

    /// The wait before a try, some of it by chance so that many clients do not come back at once.
    pub fn backoff(&self, attempts: u32) -> Duration {
        let doubled = self.settings.backoff.saturating_mul(1 << (attempts - 1).min(10));
        let chance = RandomState::new().hash_one(attempts) % 256;
        (doubled + doubled * u32::try_from(chance).unwrap_or(0) / 1024).min(WAIT_MAX)
    }

    /// Once, or twice when the registry first wants to know who asks.
    ///
    /// Where a registry leads to (`Location` of an upload, `Link` of a list) may be anywhere: elsewhere nobody shows who they are,
    /// and no other host's challenge is answered.
    fn attempt(&self, endpoint: &Endpoint, call: &Call, scopes: &[Scope]) -> Result<Response, AttemptError> {
        if endpoint.verify && !call.url.starts_with("https://") {
            let problem = "the registry leads there, which is not asked without TLS".to_owned();
            return Err(AttemptError::Failure(Failure { problem, is_passing: false }));
        }
        let own = origin(&format!("{}://{}/", self.scheme(endpoint), endpoint.server()));
        if origin(&call.url) != own {
            return Ok(self.http.send(call, None, &self.settings, endpoint.verify)?);
        }
        let known = self.tokens.find(endpoint, scopes);
        let response = self.http.send(call, known.as_deref(), &self.settings, endpoint.verify)?;
        if response.status != 401 || origin(&response.url) != own {
            return Ok(response);
        }
        let Some(authorization) = self.authorize(endpoint, &response, scopes)? else { return Ok(response) };
        Ok(self.http.send(call, Some(&authorization), &self.settings, endpoint.verify)?)
    }

    /// What to say who asks; `None` when there is nothing to say.
    fn authorize(
        &self,
        endpoint: &Endpoint,
        response: &Response,
        scopes: &[Scope],
    ) -> Result<Option<String>, Error> {
        let values =
            response.headers.get_all("www-authenticate").iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<Challenge> = values.flat_map(challenge::parse).collect();
        let find = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        let identity = credentials::of(&self.settings, endpoint)?;
        if let Some(bearer) = find("bearer") {
            let request = token::Request { endpoint, challenge: bearer, scopes, identity: identity.as_ref() };
            let token = self.fetch_token(&request)?;
            return Ok(Some(self.tokens.keep(endpoint, scopes, token)));
        }
        let basic = find("basic").and(identity.as_ref()).and_then(token::basic);
        Ok(basic
            .map(|authorization| self.tokens.keep(endpoint, scopes, token::Token::lasting(authorization))))
    }

    fn fetch_token(&self, request: &token::Request) -> Result<token::Token, Error> {
        let (url, form) = request.target()?;
        let length = form.as_ref().map_or(0, Vec::len) as u64;
        let bytes = form.clone().unwrap_or_default();
        let open = move || -> std::io::Result<Box<dyn std::io::Read + Send>> {
            Ok(Box::new(std::io::Cursor::new(bytes.clone())))
        };
        let method = if form.is_some() { Method::POST } else { Method::GET };
        let body = form.as_ref().map(|_| crate::http::Outgoing {
            content_type: "application/x-www-form-urlencoded",
            length,
            open: &open,
        });
        let call = Call { body, is_secret: true, ..Call::new(method, url) };
        let authorization = request.identity.filter(|_| form.is_none()).and_then(token::basic);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let sent =
                self.http.send(&call, authorization.as_deref(), &self.settings, request.endpoint.verify);
            let passing = match sent {
                Ok(mut response) if response.status < 400 => return token::parse(&call.url, &mut response),
                Ok(mut response) => {
                    let passes = PASSING.contains(&response.status);
                    (status_error(&call, &mut response, attempts), passes)
                }
                Err(SendError::Failure(failure)) => {
                    let passes = failure.is_passing;
                    (connection_error(&call, failure, attempts), passes)
                }
                Err(other) => return Err(source_error(other)),
            };
            if !passing.1 || attempts > self.settings.retries {
                return Err(passing.0);
            }
            std::thread::sleep(self.backoff(attempts));
        }
    }
}

/// Why a try gave no answer.
enum AttemptError {
    Failure(Failure),
    Final(Error),
}

impl From<SendError> for AttemptError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Failure(failure) => Self::Failure(failure),
            other => Self::Final(source_error(other)),
        }
    }
}

impl From<Error> for AttemptError {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

fn source_error(error: SendError) -> Error {
    match error {
        SendError::Source(source) => source
            .downcast()
            .unwrap_or_else(|source| Kind::Source { what: "what is to be sent".to_owned(), source }.into()),
        SendError::Setup(error) => error,
        SendError::Failure(failure) => {
            Kind::Answer { what: "request".to_owned(), why: failure.problem }.into()
        }
    }
}

/// Seconds, or a date. <https://datatracker.ietf.org/doc/html/rfc9110#section-10.2.3>
fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.header("retry-after")?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = UNIX_EPOCH.checked_add(Duration::from_secs(http_date::parse(text)?))?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

fn connection_error(call: &Call, failure: Failure, attempts: u32) -> Error {
    let Failure { problem, .. } = failure;
    let (method, url) = (call.method.to_string(), without_query(&call.url));
    Kind::Connection { method, url, problem, attempts: Attempts(attempts) }.into()
}

/// An error that says what the registry said.
pub(crate) fn status_error(call: &Call, response: &mut Response, attempts: u32) -> Error {
    let body = response.read(MESSAGE_LIMIT).map(|(bytes, _)| bytes).unwrap_or_default();
    let mut message = registry_message(&body).map(|text| format!(", {text}")).unwrap_or_default();
    if matches!(response.status, 401 | 403) {
        message += "; see --creds and --authfile";
    }
    let (method, url, status) = (call.method.to_string(), without_query(&call.url), response.status);
    Kind::Status { method, url, status, message, attempts: Attempts(attempts) }.into()
}

/// The first of the errors in a body.
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#error-codes>
fn registry_message(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let first = value.get("errors")?.get(0)?;
    let text = |key: &str| first.get(key).and_then(|value| value.as_str());
    let message = text("message").or_else(|| text("code"))?;
    Some(crate::printable(message))
}
