//! Which of an archive's images is meant.

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

/// The image that `choice` means.
///
/// # Errors
/// When there is none, or there are several.
pub(super) fn choose<'a, I: Named>(images: &'a [I], choice: &Choice) -> Result<&'a I, Error> {
    if images.is_empty() {
        return Err(Kind::Choice("the archive holds no image".to_owned()).into());
    }
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
