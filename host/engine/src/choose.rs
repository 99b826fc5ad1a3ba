//! Which engine to use.

use crate::error::Kind;
use crate::{CpuModel, Engine, Error, Unusable, kvm::Kvm, qemu::Qemu};
use std::path::PathBuf;

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Accel {
    /// The fastest that works.
    #[default]
    Auto,
    /// Hardware virtualisation or nothing.
    Kvm,
    /// Emulation, which works everywhere.
    Tcg,
}

/// What engines are to know of their surroundings.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// An existing directory for what need not be found out twice.
    pub cache: Option<PathBuf>,
    /// What processors the machine is to have.
    pub cpu_model: CpuModel,
}

/// An engine that works here.
pub struct Choice {
    /// To launch with.
    pub engine: Box<dyn Engine>,
    /// The program or device it uses.
    pub path: PathBuf,
    /// For the user, once, when something slower had to do: why.
    pub notice: Option<String>,
}

/// The first engine for `accel` that is worth launching here.
///
/// # Errors
/// When none can; the reason of each is in the message.
pub fn choose(accel: Accel, settings: &Settings) -> Result<Choice, Error> {
    first_found(match accel {
        Accel::Auto => engines(settings),
        Accel::Kvm => vec![Box::new(kvm(settings).even_if_slow())],
        Accel::Tcg => vec![Box::new(Qemu::from_environment())],
    })
}

/// All engines, the fastest first.
pub fn engines(settings: &Settings) -> Vec<Box<dyn Engine>> {
    vec![Box::new(kvm(settings)), Box::new(Qemu::from_environment())]
}

fn kvm(settings: &Settings) -> Kvm {
    Kvm::from_environment().with_cache(settings.cache.clone()).for_cpu_model(settings.cpu_model)
}

fn first_found(engines: Vec<Box<dyn Engine>>) -> Result<Choice, Error> {
    let mut refused = Vec::new();
    for engine in engines {
        match engine.find() {
            Ok(path) => {
                let notice = notice(engine.name(), &refused);
                return Ok(Choice { engine, path, notice });
            }
            Err(why) => refused.push((engine.name(), why)),
        }
    }
    Err(Kind::NoEngine(refused).into())
}

fn notice(name: &str, refused: &[(&'static str, Unusable)]) -> Option<String> {
    let (faster, why) = refused.last()?;
    Some(format!("using {name}, which is slower, because {faster} cannot be used: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    fn broken(reason: &str) -> Box<dyn Engine> {
        Box::new(Fake::unusable(Unusable { reason: reason.into(), remedy: Some("mend it".into()) }))
    }

    #[test]
    fn the_first_that_works_is_taken_and_says_why_it_is_not_a_better_one() {
        let choice = first_found(vec![broken("no device"), Box::new(Fake::new(|_| {}))]).unwrap();
        assert_eq!(
            choice.notice.unwrap(),
            "using fake, which is slower, because fake cannot be used: no device (mend it)"
        );
    }

    #[test]
    fn the_best_has_nothing_to_explain() {
        assert_eq!(first_found(vec![Box::new(Fake::new(|_| {}))]).unwrap().notice, None);
    }

    #[test]
    fn when_none_works_each_says_why() {
        let error = first_found(vec![broken("no device"), broken("no program")]).err().unwrap();
        assert_eq!(
            error.to_string(),
            "no engine can be used here: fake: no device (mend it); fake: no program (mend it)"
        );
    }
}
