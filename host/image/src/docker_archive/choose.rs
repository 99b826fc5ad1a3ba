//! Which of an archive's images are meant.

use crate::error::{Error, Kind};
use crate::reference::{Choice, ImageName};

/// Images a message lists.
const LISTED: usize = 20;

/// Anything that has names.
pub(super) trait Named {
    /// As the archive spells them.
    fn tags(&self) -> &[String];

    /// Those that are names.
    fn names(&self) -> Vec<ImageName> {
        self.tags().iter().filter_map(|tag| tag.parse().ok()).collect()
    }
}

/// What is wanted of an archive.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which<'a> {
    One(&'a Choice),
    All,
}

/// Images of one archive, where all are wanted.
const ALL_MAX: usize = 1000;

/// The images that are wanted.
///
/// # Errors
/// When there are none, several and one is wanted, or too many.
pub(super) fn choose<'a, I: Named>(images: &'a [I], which: Which) -> Result<Vec<&'a I>, Error> {
    if images.is_empty() {
        return Err(Kind::Choice("the archive holds no image".to_owned()).into());
    }
    match which {
        Which::One(choice) => one(images, choice).map(|image| vec![image]),
        Which::All if images.len() > ALL_MAX => {
            let why = format!("it lists {} images, more than the {ALL_MAX} allowed", images.len());
            Err(Kind::corrupt("docker-archive", why).into())
        }
        Which::All => Ok(images.iter().collect()),
    }
}

fn one<'a, I: Named>(images: &'a [I], choice: &Choice) -> Result<&'a I, Error> {
    let refused = |why: String| Kind::Choice(format!("{why}: {}", list(images)));
    match choice {
        Choice::Only if images.len() == 1 => Ok(&images[0]),
        Choice::Only => Err(refused("the archive holds several images, choose one".to_owned()).into()),
        Choice::Name(name) => images
            .iter()
            .find(|image| image.names().contains(name))
            .ok_or_else(|| refused(format!("the archive holds no image {name}, but")).into()),
        Choice::Index(index) => images
            .get(*index)
            .ok_or_else(|| refused(format!("the archive holds no image @{index}, but")).into()),
    }
}

/// `@0 "debian:latest" "debian:12", @1`: names of the archive are quoted, as they may hold anything.
fn list<I: Named>(images: &[I]) -> String {
    let shown = images.iter().take(LISTED).enumerate().map(|(index, image)| {
        image.tags().iter().take(LISTED).fold(format!("@{index}"), |text, tag| format!("{text} {tag:?}"))
    });
    let text = shown.collect::<Vec<_>>().join(", ");
    if images.len() > LISTED { format!("{text} and more") } else { text }
}
