//! What a registry asks for when it answers 401.
//!
//! `WWW-Authenticate: Bearer realm="https://...",service="...",scope="..."`, several of them, or several in one header.
//! <https://datatracker.ietf.org/doc/html/rfc9110#section-11.6.1>,
//! <https://distribution.github.io/distribution/spec/auth/token/>

use std::collections::BTreeMap;

/// One way to authenticate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// Lower case: `bearer`, `basic`.
    pub scheme: String,
    /// Names in lower case.
    pub parameters: BTreeMap<String, String>,
}

impl Challenge {
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }
}

/// Challenges of a header's value. What does not follow the grammar ends it.
pub(crate) fn parse(value: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = value.trim_start_matches([' ', '\t', ',']);
    while let Some((word, after)) = token(rest) {
        match after.trim_start().strip_prefix('=') {
            // A parameter of the challenge before; a scheme's own data (token68) has no name before its `=`.
            Some(text) if !challenges.is_empty() => {
                let Some((text, after)) = parameter_value(text.trim_start()) else { break };
                let last = challenges.last_mut().expect("just seen");
                last.parameters.insert(word.to_ascii_lowercase(), text);
                rest = after;
            }
            Some(_) => break,
            None => {
                challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: BTreeMap::new() });
                rest = after;
            }
        }
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    challenges
}

fn token(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !is_token(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// A token, or text in quotes in which `\` quotes one character.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return token(text).map(|(word, rest)| (word.to_owned(), rest));
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (index, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((value, &quoted[index + 1..])),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &str) -> Vec<String> {
        let show = |challenge: Challenge| {
            let parameters = challenge.parameters.iter().map(|(name, value)| format!(" {name}={value}"));
            format!("{}{}", challenge.scheme, parameters.collect::<String>())
        };
        parse(value).into_iter().map(show).collect()
    }

    #[test]
    fn challenges() {
        for (value, expected) in [
            (r#"Basic realm="x y""#, &["basic realm=x y"][..]),
            (
                r#"Bearer realm="https://a/token",service="s",scope="repository:a/b:pull,push""#,
                &["bearer realm=https://a/token scope=repository:a/b:pull,push service=s"],
            ),
            (
                r#"Basic realm="a", Bearer realm=b , service="c""#,
                &["basic realm=a", "bearer realm=b service=c"],
            ),
            (r#"Basic realm="a\"b""#, &[r#"basic realm=a"b"#]),
            (r#"Negotiate, Basic realm="x""#, &["negotiate", "basic realm=x"]),
            (r#"Bearer realm="unfinished"#, &["bearer"]),
            (r#"="x""#, &[]),
            ("", &[]),
        ] {
            assert_eq!(shown(value), expected, "{value}");
        }
    }
}
