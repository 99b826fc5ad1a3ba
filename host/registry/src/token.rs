//! Tokens: what a token server gives for a name and a password, or for nothing.
//!
//! <https://distribution.github.io/distribution/spec/auth/token/>,
//! <https://distribution.github.io/distribution/spec/auth/oauth/>

use crate::challenge::Challenge;
use crate::credentials::Identity;
use crate::endpoint::Endpoint;
use crate::error::{Error, Kind};
use crate::exchange::Scope;
use crate::http::{Response, without_query};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a token lasts that does not say so.
const DEFAULT_SECONDS: u64 = 60;
/// A token is not used in its last moments.
const MARGIN: Duration = Duration::from_secs(10);
/// Bytes of a token server's answer.
const LIMIT: u64 = 1 << 20;

/// The value of an `Authorization` header, and until when it is good.
pub(crate) struct Token {
    authorization: String,
    expires: Option<Instant>,
}

impl Token {
    pub fn lasting(authorization: String) -> Self {
        Self { authorization, expires: None }
    }
}

type Key = (String, Vec<Scope>);

/// Tokens in hand.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<Key, Token>>);

/// Never shown.
impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

impl Tokens {
    pub fn find(&self, endpoint: &Endpoint, scopes: &[Scope]) -> Option<String> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let token = tokens.get(&(endpoint.server().to_owned(), scopes.to_vec()))?;
        let is_good = token.expires.is_none_or(|expires| Instant::now() + MARGIN < expires);
        is_good.then(|| token.authorization.clone())
    }

    pub fn keep(&self, endpoint: &Endpoint, scopes: &[Scope], token: Token) -> String {
        let authorization = token.authorization.clone();
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.insert((endpoint.server().to_owned(), scopes.to_vec()), token);
        authorization
    }
}

/// `Basic ...`, for a name and a password.
pub(crate) fn basic(identity: &Identity) -> Option<String> {
    match identity {
        Identity::Password(it) => {
            Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", it.user, it.password))))
        }
        Identity::Token(_) => None,
    }
}

/// What is asked of a token server.
pub(crate) struct Request<'a> {
    pub endpoint: &'a Endpoint,
    pub challenge: &'a Challenge,
    pub scopes: &'a [Scope],
    pub identity: Option<&'a Identity>,
}

impl Request<'_> {
    /// The URL, and a form to post there when there is an identity token.
    pub fn target(&self) -> Result<(String, Option<Vec<u8>>), Error> {
        let realm = self.realm()?;
        let service = self.challenge.parameter("service").map(|service| ("service", service.to_owned()));
        let mut scopes: Vec<String> = self.scopes.iter().map(Scope::to_string).collect();
        if scopes.is_empty() {
            scopes.extend(self.challenge.parameter("scope").map(str::to_owned));
        }
        if let Some(Identity::Token(token)) = self.identity {
            let mut fields =
                vec![("grant_type", "refresh_token".to_owned()), ("client_id", "kiln".to_owned())];
            fields.extend(service);
            fields.push(("scope", scopes.join(" ")));
            fields.push(("refresh_token", token.clone()));
            return Ok((realm, Some(form(&fields).into_bytes())));
        }
        let mut fields: Vec<(&str, String)> = service.into_iter().collect();
        fields.extend(scopes.into_iter().map(|scope| ("scope", scope)));
        let separator = if realm.contains('?') { '&' } else { '?' };
        Ok((format!("{realm}{separator}{}", form(&fields)), None))
    }

    /// A server that may see passwords.
    fn realm(&self) -> Result<String, Error> {
        let refused = |why: String| Kind::Answer { what: format!("registry {}", self.endpoint.host), why };
        let realm = self.challenge.parameter("realm").unwrap_or_default();
        let is_allowed =
            realm.starts_with("https://") || (realm.starts_with("http://") && !self.endpoint.verify);
        if !is_allowed {
            let shown = without_query(realm);
            return Err(
                refused(format!("it wants a token from {shown:?}, which is not asked without TLS")).into()
            );
        }
        Ok(realm.to_owned())
    }
}

/// `a=b&c=d`.
fn form(fields: &[(&str, String)]) -> String {
    let fields: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    fields.join("&")
}

/// Percent-encoding of all that could mean something.
/// <https://datatracker.ietf.org/doc/html/rfc3986#section-2.3>
pub(crate) fn encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// The token in a token server's answer.
pub(crate) fn parse(url: &str, response: &mut Response) -> Result<Token, Error> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<u64>,
    }
    let refused = |why: &str| Kind::Answer {
        what: format!("token server {}", without_query(url)),
        why: why.to_owned(),
    };
    let (bytes, is_all) = response.read(LIMIT).map_err(|_| refused("its answer ended early"))?;
    if !is_all {
        return Err(refused("its answer is too long").into());
    }
    let answer: Answer =
        serde_json::from_slice(&bytes).map_err(|_| refused("its answer is not the JSON it should be"))?;
    let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token);
    let token = token.filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()));
    let token = token.ok_or_else(|| refused("there is no token in its answer"))?;
    let seconds = answer.expires_in.unwrap_or(DEFAULT_SECONDS).min(24 * 3600);
    let expires = Some(Instant::now() + Duration::from_secs(seconds));
    Ok(Token { authorization: format!("Bearer {token}"), expires })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::challenge;

    fn target(realm: &str, verify: bool) -> Result<String, String> {
        let challenge = &challenge::parse(&format!("Bearer realm=\"{realm}\",service=s"))[0];
        let endpoint = &Endpoint { host: "h".to_owned(), path: "a".to_owned(), verify, is_elsewhere: false };
        let scopes = &[Scope { path: "a".to_owned(), actions: "pull,push" }];
        let request = Request { endpoint, challenge, scopes, identity: None };
        request.target().map(|(url, _)| url).map_err(|error| error.to_string())
    }

    #[test]
    fn a_token_server_is_not_asked_without_tls() {
        let query = "service=s&scope=repository%3Aa%3Apull%2Cpush";
        assert_eq!(target("https://t/x", true), Ok(format!("https://t/x?{query}")));
        assert_eq!(target("https://t/x?y", true), Ok(format!("https://t/x?y&{query}")));
        assert_eq!(target("http://t/x", false), Ok(format!("http://t/x?{query}")));
        let refused = "registry h: it wants a token from \"http://t/x\", which is not asked without TLS";
        assert_eq!(target("http://t/x", true), Err(refused.to_owned()));
        assert!(target("file:///x", false).is_err());
    }
}
