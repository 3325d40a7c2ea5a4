//! Settings from the environment: every variable with its default, a reader that reports all mistakes together, and what every
//! process reads of its log.

mod reader;
mod variables;

use std::fmt;

pub use reader::{Placeholder, SettingsReader};
pub use variables::{VARIABLES, Variable};

/// Everything wrong with the settings, one line for each.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Berth cannot start with these settings:\n  {}", self.0.join("\n  "))
    }
}

impl std::error::Error for Mistakes {}

/// What is logged, for a part that reads nothing else.
#[derive(Clone, Debug)]
pub struct LogConfig {
    pub filter: String,
    pub json: bool,
}

impl LogConfig {
    /// Reads `BERTH_LOG` and `BERTH_LOG_FORMAT` from the environment.
    ///
    /// # Errors
    /// Every mistake found, each naming its variable.
    pub fn from_env() -> Result<Self, Mistakes> {
        let mut settings = SettingsReader::of_environment();
        let config = Self::read(&mut settings);
        settings.finish(config)
    }

    /// Reads the same two variables with `settings`.
    pub fn read(settings: &mut SettingsReader<'_>) -> Self {
        Self { filter: settings.text("BERTH_LOG"), json: settings.one_of("BERTH_LOG_FORMAT", "json", "pretty") }
    }
}
