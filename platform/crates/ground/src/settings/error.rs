//! The error of settings with mistakes.

use std::fmt;

/// All mistakes in the settings, one sentence for each, which names its variable.
#[derive(Debug, PartialEq, Eq)]
pub struct SettingsError(pub Vec<String>);

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Berth cannot start with these settings:\n  {}", self.0.join("\n  "))
    }
}

impl std::error::Error for SettingsError {}
