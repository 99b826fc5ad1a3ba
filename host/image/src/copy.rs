//! Copying with errors that tell which side failed.

use crate::Error;
use std::io::{self, Read};

/// Bytes copied at once.
const BUFFER_SIZE: usize = 128 * 1024;

/// Gives all that `from` has to `take`, piece by piece, and returns how many bytes that were. An error
/// of reading becomes one of being unable to do what `doing` says, unless it carries one of ours.
pub(crate) fn copy(
    from: &mut (impl Read + ?Sized),
    doing: impl Fn() -> String,
    mut take: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<u64, Error> {
    let mut buffer = vec![0; BUFFER_SIZE];
    let mut copied = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(count) => {
                take(&buffer[..count])?;
                copied += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::from_io(error, doing)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Interrupted once, then a byte, then an error.
    struct Unreliable(u8);

    impl Read for Unreliable {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 += 1;
            match self.0 {
                1 => Err(io::ErrorKind::Interrupted.into()),
                2 => {
                    buffer[0] = b'x';
                    Ok(1)
                }
                _ => Err(io::ErrorKind::ConnectionReset.into()),
            }
        }
    }

    #[test]
    fn each_side_has_its_own_error() {
        let mut taken = Vec::new();
        let take = |bytes: &[u8]| {
            taken.extend_from_slice(bytes);
            Ok(())
        };
        let error = copy(&mut Unreliable(0), || "read it".into(), take).unwrap_err();
        assert_eq!((error.to_string().as_str(), &taken[..]), ("cannot read it", &b"x"[..]));
        let full = |_: &[u8]| Err(Error::from_io(io::ErrorKind::StorageFull.into(), || "write it".into()));
        let error = copy(&mut &b"y"[..], || "read it".into(), full).unwrap_err();
        assert_eq!(error.to_string(), "cannot write it");
        assert_eq!(copy(&mut &[7; 300_000][..], String::new, |_| Ok(())).unwrap(), 300_000);
    }
}
