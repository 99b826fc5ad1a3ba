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
/// What broke a connection that the other side closed.
const ENDED: &str = "the connection ended";

/// Reads a blob. The read that reaches the descriptor's size fails if the digest is not the descriptor's, and gives no bytes.
pub(crate) struct BlobReader {
    exchange: Arc<Exchange>,
    /// Where it may be; the first is asked.
    endpoints: Vec<Endpoint>,
    blob: Descriptor,
    /// Of the bytes given out.
    hasher: Hasher,
    /// Bytes given out.
    position: u64,
    current: Option<Box<dyn Read + Send>>,
    /// Tries since bytes last came.
    failures: u32,
    /// Whether a read failed: then all that follow do.
    has_failed: bool,
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
            hasher: Hasher::new(),
            position: 0,
            current: None,
            failures: 0,
            has_failed: false,
        };
        if let Some(problem) = reader.connect()? {
            reader.recover(problem)?;
        }
        Ok(reader)
    }

    fn what(&self) -> String {
        format!("blob {}", self.blob.digest)
    }

    /// Connects from the current position on; places that do not have the blob are not asked again. Gives what broke the
    /// connection, if it did not last until that position.
    fn connect(&mut self) -> Result<Option<String>, Error> {
        loop {
            let result = self.connect_to_first();
            match result {
                Err(error) if self.endpoints.len() > 1 && error.may_be_elsewhere() => {
                    self.leave_mirror(&error.to_string());
                }
                Err(error) => return Err(error),
                Ok(Err(problem)) => return Ok(Some(problem)),
                Ok(Ok(body)) => {
                    self.current = Some(body);
                    return Ok(None);
                }
            }
        }
    }

    fn leave_mirror(&mut self, problem: &str) {
        let failed = self.endpoints.remove(0);
        let message = format!("mirror {}: {problem}; asking elsewhere", failed.host);
        self.exchange.settings.notify.say(&message);
    }

    fn connect_to_first(&self) -> Result<Result<Box<dyn Read + Send>, String>, Error> {
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
        Ok(self.skip(&mut body, skip)?.map(|()| body))
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

    /// Reads the bytes given out before, which have to be the same; or says what broke the connection.
    fn skip(&self, body: &mut dyn Read, count: u64) -> Result<Result<(), String>, Error> {
        let (mut left, mut hasher) = (count, Hasher::new());
        let mut buffer = vec![0; SKIP];
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(SKIP).min(SKIP);
            match body.read(&mut buffer[..wanted]) {
                Ok(0) => return Ok(Err(ENDED.to_owned())),
                Ok(read) => {
                    hasher.update(&buffer[..read]);
                    left -= read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Ok(Err(crate::printable(&error.to_string()))),
            }
        }
        if count > 0 && hasher.finish().digest != self.hasher.clone().finish().digest {
            let why = "the registry sends other bytes than before".to_owned();
            return Err(Kind::Answer { what: self.what(), why }.into());
        }
        Ok(Ok(()))
    }

    /// Goes on after a connection broke, or its other side said that this was all.
    fn recover(&mut self, mut problem: String) -> Result<(), Error> {
        loop {
            self.wait(&problem)?;
            match self.connect()? {
                Some(next) => problem = next,
                None => return Ok(()),
            }
        }
    }

    /// Until the next try; a mirror's tries are not the registry's.
    fn wait(&mut self, problem: &str) -> Result<(), Error> {
        self.failures += 1;
        self.current = None;
        if self.failures > self.exchange.settings.retries && self.endpoints.len() > 1 {
            self.failures = 0;
            self.leave_mirror(problem);
            return Ok(());
        }
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
        Ok(())
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
        let got = self.hasher.clone().finish().digest;
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
        if self.has_failed {
            return Err(io::Error::other("read again after it failed"));
        }
        let result = self.read_on(buffer);
        self.has_failed = result.is_err();
        result
    }
}

impl BlobReader {
    fn read_on(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
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
                Ok(0) => ENDED.to_owned(),
                Ok(count) => return self.took(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => crate::printable(&error.to_string()),
            };
            self.recover(problem)?;
        }
    }

    fn took(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.position += bytes.len() as u64;
        self.failures = 0;
        if self.position == self.blob.size {
            self.verify()?;
        }
        Ok(bytes.len())
    }
}
