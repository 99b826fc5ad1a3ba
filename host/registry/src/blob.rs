//! A blob on its way here: resumed where the connection broke, and given out wholly only when it is what it should be.

use crate::endpoint::Endpoint;
use crate::error::{Error, Kind};
use crate::exchange::{Exchange, Scope};
use crate::http::{Call, Response};
use kiln_image::digest::Hasher;
use kiln_image::manifest::Descriptor;
use std::io::{self, Read};
use std::sync::Arc;
use ureq::http::{Method, header};

/// Bytes skipped at once where a server does not resume.
const SKIP: usize = 64 << 10;

/// Reads a blob. The read that reaches the descriptor's size fails if the digest is not the descriptor's, and gives no bytes.
pub(crate) struct BlobReader {
    exchange: Arc<Exchange>,
    /// Where it may be; the first is asked.
    endpoints: Vec<Endpoint>,
    blob: Descriptor,
    hasher: Option<Hasher>,
    /// Bytes given out.
    position: u64,
    current: Option<Box<dyn Read + Send>>,
    /// Tries since bytes last came.
    failures: u32,
}

impl BlobReader {
    /// Opens a blob: where it is not to be had at the first place, at the next.
    pub fn open(
        exchange: &Arc<Exchange>,
        endpoints: Vec<Endpoint>,
        blob: &Descriptor,
    ) -> Result<Self, Error> {
        let mut reader = Self {
            exchange: Arc::clone(exchange),
            endpoints,
            blob: blob.clone(),
            hasher: Some(Hasher::new()),
            position: 0,
            current: None,
            failures: 0,
        };
        reader.connect()?;
        Ok(reader)
    }

    fn what(&self) -> String {
        format!("blob {}", self.blob.digest)
    }

    /// Connects from the current position on; places that do not have the blob are not asked again.
    fn connect(&mut self) -> Result<(), Error> {
        loop {
            let result = self.connect_to_first();
            match result {
                Err(error) if self.endpoints.len() > 1 && error.may_be_elsewhere() => {
                    let failed = self.endpoints.remove(0);
                    let message = format!("mirror {}: {error}; asking elsewhere", failed.host);
                    self.exchange.settings.notify.say(&message);
                }
                Err(error) => return Err(error),
                Ok(body) => {
                    self.current = Some(body);
                    return Ok(());
                }
            }
        }
    }

    fn connect_to_first(&self) -> Result<Box<dyn Read + Send>, Error> {
        let endpoint = &self.endpoints[0];
        let url = self.exchange.url(endpoint, &format!("blobs/{}", self.blob.digest));
        let mut call = Call::new(Method::GET, url);
        if self.position > 0 {
            call = call.header(header::RANGE, format!("bytes={}-", self.position));
        }
        let scopes = [Scope { path: endpoint.path.clone(), actions: "pull" }];
        let response = self.exchange.ask(endpoint, &call, &scopes, &[])?;
        let skip = self.check_range(&response)?;
        let mut body: Box<dyn Read + Send> = Box::new(response.body);
        self.skip(&mut body, skip)?;
        Ok(body)
    }

    /// How many bytes of the answer were given out before. Its length has to fit.
    fn check_range(&self, response: &Response) -> Result<u64, Error> {
        let refused = |why: String| Kind::Answer { what: self.what(), why };
        let (start, end) = match response.status {
            200 => (0, self.blob.size),
            206 => (self.position, self.blob.size),
            status => return Err(refused(format!("the registry answered {status}")).into()),
        };
        if let Some(range) = response.header("content-range").filter(|_| response.status == 206) {
            let first = range.strip_prefix("bytes ").and_then(|range| range.split('-').next());
            if first.and_then(|first| first.parse().ok()) != Some(start) {
                let shown = crate::printable(range);
                return Err(
                    refused(format!("the registry sends {shown:?} where {start}- was asked for")).into()
                );
            }
        }
        if let Some(length) = response.header("content-length").and_then(|length| length.parse::<u64>().ok())
            && length != end - start
        {
            let (what, expected) = (self.what(), end - start);
            return Err(Kind::Size { what, expected, got: length }.into());
        }
        Ok(self.position - start)
    }

    /// The bytes given out before: at the end the digest shows whether they were the same.
    fn skip(&self, body: &mut dyn Read, count: u64) -> Result<(), Error> {
        let mut left = count;
        let mut buffer = vec![0; SKIP];
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(SKIP).min(SKIP);
            match body.read(&mut buffer[..wanted]) {
                Ok(0) => {
                    return Err(Kind::Size { what: self.what(), expected: count, got: count - left }.into());
                }
                Ok(read) => left -= read as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Kind::Source { what: self.what(), source }.into()),
            }
        }
        Ok(())
    }

    /// A connection that broke, or whose other side says that this was all.
    fn broken(&mut self, problem: &str) -> Result<(), Error> {
        self.failures += 1;
        self.current = None;
        if self.failures > self.exchange.settings.retries {
            let (what, expected) = (format!("{} ({problem})", self.what()), self.blob.size);
            return Err(Kind::Size { what, expected, got: self.position }.into());
        }
        let wait = self.exchange.backoff(self.failures);
        let (what, position, size) = (self.what(), self.position, self.blob.size);
        let message = format!(
            "{what}: {problem} after {position} of {size} bytes; going on in {:.1} s",
            wait.as_secs_f64()
        );
        self.exchange.settings.notify.say(&message);
        std::thread::sleep(wait);
        self.connect()
    }

    /// Whether more follows than the descriptor says.
    fn check_end(&mut self) -> Result<(), Error> {
        let mut one = [0];
        let more =
            self.current.as_mut().is_some_and(|body| matches!(body.read(&mut one), Ok(count) if count > 0));
        if more {
            let (what, expected) = (self.what(), self.blob.size);
            return Err(Kind::Size { what, expected, got: expected + 1 }.into());
        }
        Ok(())
    }

    fn verify(&mut self) -> Result<(), Error> {
        self.check_end()?;
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        let got = hasher.finish().digest;
        if got != self.blob.digest {
            return Err(Kind::DigestMismatch { what: self.what(), expected: self.blob.digest, got }.into());
        }
        Ok(())
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.position == self.blob.size {
            self.verify()?;
            return Ok(0);
        }
        let left = usize::try_from(self.blob.size - self.position).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        loop {
            let Some(body) = self.current.as_mut() else {
                return Err(io::Error::other("read again after it failed"));
            };
            let problem = match body.read(&mut buffer[..wanted]) {
                Ok(0) => "the connection ended".to_owned(),
                Ok(count) => return self.took(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => crate::printable(&error.to_string()),
            };
            self.broken(&problem)?;
        }
    }
}

impl BlobReader {
    fn took(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.position += bytes.len() as u64;
        self.failures = 0;
        if self.position == self.blob.size {
            self.verify()?;
        }
        Ok(bytes.len())
    }
}
