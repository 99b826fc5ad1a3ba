//! Reads `kiln.toml` (see `docs/build-file.md`) and checks everything that can be checked before
//! anything runs.

mod config;
mod disk;
mod image;
mod located;
mod names;
mod plan;
mod schema;
mod values;

pub use located::Located;
pub use plan::{
    About, BuildFile, ContentSource, Finish, Hook, HookScript, IdRange, Image, Layer, Origin, Output, Parent,
    Particular, RootPassword, Source, Squash,
};

use crate::{Error, error::Kind, output_spec, parse_size};
use kiln_image::reference::{ImageReference, Location};
use schema::{Document, Span};
use std::{
    fs,
    path::{Path, PathBuf},
};
use toml::Spanned;

/// Most images of a file: what is made of what is followed for each.
const MAX_IMAGES: usize = 1000;

impl BuildFile {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// With line and column for everything that is wrong in the file; when it cannot be read.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(|source| Kind::ReadBuildFile { path: path.to_owned(), source })?;
        let text = String::from_utf8_lossy(&bytes);
        let checked = Checker { path, text: &text, ids: Vec::new() }.check();
        Ok(checked.map_err(Kind::BuildFile)?)
    }
}

/// Turns what is written into what is meant.
struct Checker<'a> {
    path: &'a Path,
    text: &'a str,
    /// Of the images, in the order of the file.
    ids: Vec<String>,
}

impl Checker<'_> {
    fn check(mut self) -> Result<BuildFile, Located> {
        if let Some(at) = self.text.find(char::REPLACEMENT_CHARACTER) {
            return Err(Located::new(self.path, self.text, &(at..at), "this is not UTF-8"));
        }
        let document =
            Document::parse(self.text).map_err(|mistake| self.at(&mistake.span, mistake.message))?;
        if let Some(first_too_many) = document.images.get(MAX_IMAGES) {
            return Err(self.at(&first_too_many.span, format!("a file has no more than {MAX_IMAGES} images")));
        }
        self.ids = self.ids(&document.images)?;
        let spans: Vec<Span> = document.images.iter().map(|image| image.span.clone()).collect();
        let disk_size = self.optional(document.disk_size.as_ref(), parse_size)?;
        let (mut outputs, mut disk_outputs) = (Vec::new(), Vec::new());
        for output in &document.outputs {
            match self.disk_output(output)? {
                Some(output) => disk_outputs.push(output),
                None => outputs.push(self.output(output)?),
            }
        }
        let images = document.images.into_iter().zip(&self.ids);
        let images: Vec<Image> = images.map(|(image, id)| self.image(image, id)).collect::<Result<_, _>>()?;
        self.check_cycles(&images, &spans)?;
        Ok(BuildFile {
            path: self.path.to_owned(),
            is_short: document.is_short,
            images,
            outputs,
            disk_outputs,
            disk_size,
        })
    }

    fn ids(&self, images: &[schema::Image]) -> Result<Vec<String>, Located> {
        let mut ids: Vec<String> = Vec::new();
        for (index, image) in images.iter().enumerate() {
            let Some(id) = &image.keys.id else {
                ids.push(index.to_string());
                continue;
            };
            let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
            if id.get_ref().is_empty() || !id.get_ref().chars().all(is_plain) {
                return Err(self.wrong(id, "an id has letters, digits, `-`, `_` and `.`"));
            }
            if id.get_ref().parse::<usize>().is_ok_and(|number| number != index) {
                return Err(self.wrong(id, "a number as id would be taken for the image of this index"));
            }
            if ids.contains(id.get_ref()) {
                return Err(self.wrong(id, format!("there is an image `{}` already", id.get_ref())));
            }
            ids.push(id.get_ref().clone());
        }
        Ok(ids)
    }

    /// The image of the file with this id or index.
    fn image_of(&self, id: &str) -> Option<usize> {
        let named = self.ids.iter().position(|known| known == id);
        named.or_else(|| id.parse().ok().filter(|index| *index < self.ids.len()))
    }

    fn check_cycles(&self, images: &[Image], spans: &[Span]) -> Result<(), Located> {
        for start in 0..images.len() {
            let (mut reached, mut pending) = (vec![false; images.len()], images[start].made_from());
            while let Some(next) = pending.pop() {
                if next == start {
                    let message = format!("image `{}` would be made of itself", images[start].id);
                    return Err(self.at(&spans[start], message));
                }
                if !std::mem::replace(&mut reached[next], true) {
                    pending.extend(images[next].made_from());
                }
            }
        }
        Ok(())
    }

    fn output(&self, output: &schema::Output) -> Result<Output, Located> {
        let text = |value: &Option<Spanned<String>>| value.as_ref().map(|value| value.get_ref().clone());
        let keys = output_spec::Keys {
            kind: text(&output.r#type),
            dest: text(&output.dest),
            name: text(&output.name),
            compression: text(&output.compression),
            force_compression: output.force_compression.then(|| "true".to_owned()),
            dialect: text(&output.dialect),
            ..output_spec::Keys::default()
        };
        let place = [&output.r#type, &output.dest, &output.name].into_iter().find_map(Option::as_ref);
        let span = place.map(Spanned::span).unwrap_or_default();
        let location = match (&output.r#type, &output.dest) {
            (None, Some(dest)) if output_spec::is_place(dest.get_ref()) => {
                self.parsed(dest, str::parse::<ImageReference>)?.location
            }
            _ => keys.location().map_err(|message| self.at(&span, message))?,
        };
        let mut spec = keys.finish(location).map_err(|message| self.at(&span, message))?;
        spec.dest.location = self.resolved(spec.dest.location);
        for id in &output.images {
            self.image_of(id.get_ref()).ok_or_else(|| self.no_image(id))?;
        }
        Ok(Output { spec, images: output.images.iter().map(|id| id.get_ref().clone()).collect() })
    }

    fn no_image(&self, id: &Spanned<String>) -> Located {
        self.wrong(id, format!("there is no image `{}`", id.get_ref()))
    }

    /// Relative to the file's directory; `-` is standard output.
    fn resolved(&self, location: Location) -> Location {
        match location.path().filter(|path| *path != "-") {
            None => location,
            Some(path) => {
                let path = self.directory().join(path).to_string_lossy().into_owned();
                location.with_path(path)
            }
        }
    }

    /// An image from elsewhere.
    fn reference(&self, value: &Spanned<String>) -> Result<ImageReference, Located> {
        let mut reference: ImageReference = self.parsed(value, str::parse)?;
        reference.location = self.resolved(reference.location);
        if let Some(path) = reference.location.path().map(PathBuf::from) {
            self.existing(value, &path)?;
        }
        Ok(reference)
    }

    /// Applies `parse`; what it complains about is shown at the value's place.
    fn parsed<T, E: ToString>(
        &self,
        value: &Spanned<String>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, Located> {
        parse(value.get_ref()).map_err(|error| self.wrong(value, error.to_string()))
    }

    fn optional<T, E: ToString>(
        &self,
        value: Option<&Spanned<String>>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Located> {
        value.map(|value| self.parsed(value, parse)).transpose()
    }

    fn existing(&self, value: &Spanned<String>, path: &Path) -> Result<fs::Metadata, Located> {
        fs::metadata(path).map_err(|error| self.wrong(value, format!("{}: {error}", path.display())))
    }

    fn wrong<T>(&self, value: &Spanned<T>, message: impl Into<String>) -> Located {
        self.at(&value.span(), message)
    }

    fn at(&self, span: &Span, message: impl Into<String>) -> Located {
        Located::new(self.path, self.text, span, message)
    }

    fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}

#[cfg(test)]
mod tests;
