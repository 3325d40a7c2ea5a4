//! Configuration from environment variables: the list of variables with their defaults, a reader that reports all
//! mistakes together, and the logging configuration of every process.

mod error;
mod reader;
mod variables;

pub use error::SettingsError;
pub use reader::{Placeholder, SettingsReader};
pub use variables::{SECRETS, SecretReader, SecretVariable, VARIABLES, Variable};

/// The logging configuration.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// A filter in the syntax of tracing's `EnvFilter`.
    pub filter: String,
    /// JSON lines instead of text.
    pub json: bool,
}

impl LogConfig {
    /// Reads `BERTH_LOG` and `BERTH_LOG_FORMAT` from the environment.
    ///
    /// # Errors
    /// Every mistake found, each naming its variable.
    pub fn from_env() -> Result<Self, SettingsError> {
        let mut settings = SettingsReader::of_environment();
        let config = Self::read(&mut settings);
        settings.finish(config)
    }

    /// Reads the same two variables through `settings`.
    pub fn read(settings: &mut SettingsReader<'_>) -> Self {
        Self { filter: settings.text("BERTH_LOG"), json: settings.one_of("BERTH_LOG_FORMAT", "json", "pretty") }
    }
}
