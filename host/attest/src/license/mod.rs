//! SPDX licence expressions: whether a package's word for its licence is one.
//! <https://spdx.github.io/spdx-spec/v2.3/SPDX-license-expressions/>

/// Version of the list of licences.
pub(crate) const LIST_VERSION: &str = "3.28";
/// Identifiers of <https://spdx.org/licenses/>, sorted, one a line.
const IDS: &str = include_str!("ids.txt");
/// Identifiers of <https://spdx.org/licenses/exceptions-index.html>, likewise.
const EXCEPTIONS: &str = include_str!("exceptions.txt");
/// Deepest parentheses.
const MAX_DEPTH: usize = 16;

/// Whether this is an expression of listed licences.
pub(crate) fn is_expression(text: &str) -> bool {
    let spaced = text.replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace();
    alternatives(&mut words, 0) && words.next().is_none()
}

/// Whether this is one listed licence.
pub(crate) fn is_id(text: &str) -> bool {
    is_listed(IDS, text)
}

fn is_listed(list: &str, word: &str) -> bool {
    list.lines().any(|line| line == word)
}

/// `TERM {AND|OR TERM}`, up to a closing parenthesis or the end. Which of the two binds closer changes
/// nothing about whether it is an expression.
fn alternatives<'a, W: Iterator<Item = &'a str> + Clone>(words: &mut W, depth: usize) -> bool {
    loop {
        if depth > MAX_DEPTH || !term(words, depth) {
            return false;
        }
        match words.clone().next() {
            Some("AND" | "OR") => {
                words.next();
            }
            Some(")") => return depth > 0,
            other => return other.is_none() && depth == 0,
        }
    }
}

/// `( EXPRESSION )` or `LICENCE[+] [WITH EXCEPTION]`.
fn term<'a, W: Iterator<Item = &'a str> + Clone>(words: &mut W, depth: usize) -> bool {
    match words.next() {
        Some("(") => alternatives(words, depth + 1) && words.next() == Some(")"),
        Some(id) if is_id(id) || id.strip_suffix('+').is_some_and(is_id) => {
            if words.clone().next() != Some("WITH") {
                return true;
            }
            words.next();
            words.next().is_some_and(|exception| is_listed(EXCEPTIONS, exception))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_and_others() {
        let deep = "(".repeat(50_000);
        let yes = [
            "MIT",
            "GPL-2.0+",
            "GPL-2.0-or-later WITH Classpath-exception-2.0",
            "(MIT OR Apache-2.0) AND BSD-3-Clause",
            "MIT AND (GPL-2.0-only OR (ISC AND Zlib))",
        ];
        let no = [
            "",
            "GPLv2+",
            "mit",
            "MIT or ISC",
            "MIT AND",
            "AND MIT",
            "(MIT",
            "MIT)",
            "MIT MIT",
            "()",
            "MIT WITH",
            "MIT WITH MIT",
            "custom:x",
            "(MIT) ISC",
            "MIT WITH (LLVM-exception)",
            &deep,
        ];
        for text in yes {
            assert!(is_expression(text), "{text}");
        }
        for text in no {
            assert!(!is_expression(text), "{text}");
        }
    }
}
