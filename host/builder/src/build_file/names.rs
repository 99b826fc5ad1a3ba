//! Names and tags of an image.

use super::{Checker, Located, schema::ImageKeys};
use kiln_image::reference::ImageName;
use toml::Spanned;

impl Checker<'_> {
    /// `name` with `tag` and each of `tags`; of `tags`, whole names stand for themselves. Without any tag it is `latest`.
    pub(super) fn names(&self, keys: &ImageKeys) -> Result<Vec<ImageName>, Located> {
        let Some(name) = &keys.name else {
            if let Some(tag) = &keys.tag {
                return Err(self.wrong(tag, "a tag needs a `name`"));
            }
            return keys.tags.iter().map(|tag| self.whole_name(tag)).collect();
        };
        let untagged: ImageName = self.parsed(name, str::parse)?;
        let has_tag = name.get_ref().rsplit('/').next().is_some_and(|last| last.contains(':'));
        if let Some(tag) = keys.tag.as_ref().filter(|_| has_tag) {
            return Err(self.wrong(tag, "the `name` has a tag already"));
        }
        let mut names = Vec::new();
        if has_tag {
            names.push(untagged.clone());
        }
        for tag in keys.tag.iter().chain(&keys.tags) {
            let tagged = if is_whole_name(tag.get_ref()) {
                self.whole_name(tag)?
            } else {
                self.parsed(tag, |tag| format!("{}:{tag}", untagged.repository()).parse::<ImageName>())?
            };
            if !names.contains(&tagged) {
                names.push(tagged);
            }
        }
        if names.is_empty() {
            names.push(untagged);
        }
        Ok(names)
    }

    fn whole_name(&self, tag: &Spanned<String>) -> Result<ImageName, Located> {
        if !is_whole_name(tag.get_ref()) {
            return Err(self.wrong(tag, "a tag needs a `name`"));
        }
        self.parsed(tag, str::parse)
    }
}

/// A tag has neither.
fn is_whole_name(text: &str) -> bool {
    text.contains(['/', ':'])
}
