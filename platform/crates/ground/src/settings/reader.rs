//! The settings reader: reads environment variables one by one and collects the mistakes, so that an operator sees all
//! of them at once.

use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use super::error::SettingsError;
use super::variables::VARIABLES;

/// Reads variables and collects their mistakes. An invalid value is replaced by a placeholder and reading continues;
/// [`SettingsReader::finish`] then refuses the settings.
pub struct SettingsReader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    mistakes: Vec<String>,
}

impl<'a> SettingsReader<'a> {
    /// Reads from `lookup`, which returns the value of a variable that is set. An empty value counts as not set.
    #[must_use]
    pub fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup, mistakes: Vec::new() }
    }

    /// Reads the environment of this process.
    #[must_use]
    pub fn of_environment() -> Self {
        Self::new(&environment)
    }

    /// Returns `settings` if no mistake was found.
    ///
    /// # Errors
    /// Every mistake found, each naming its variable.
    pub fn finish<T>(self, settings: T) -> Result<T, SettingsError> {
        if self.mistakes.is_empty() { Ok(settings) } else { Err(SettingsError(self.mistakes)) }
    }

    /// Reports a mistake: a sentence that names the variable.
    pub fn mistake(&mut self, sentence: String) {
        self.mistakes.push(sentence);
    }

    /// The mistakes so far.
    #[must_use]
    pub fn mistakes(&self) -> &[String] {
        &self.mistakes
    }

    /// The value of a variable that has no default.
    #[must_use]
    pub fn optional(&self, name: &str) -> Option<String> {
        // Compose files and systemd units pass on variables that the operator left empty.
        (self.lookup)(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty())
    }

    /// The value, or the default.
    ///
    /// # Panics
    /// When [`VARIABLES`] does not list `name`.
    #[must_use]
    pub fn text(&self, name: &'static str) -> String {
        let default = VARIABLES.iter().find(|v| v.name == name).expect("every variable read is listed").default;
        self.optional(name).unwrap_or_else(|| default.to_owned())
    }

    /// The value as a `T`. `what` names the expected kind in a mistake, such as `a port`.
    pub fn parsed<T: FromStr + Placeholder>(&mut self, name: &'static str, what: &str) -> T {
        let text = self.text(name);
        text.parse().unwrap_or_else(|_| {
            self.mistakes.push(format!("{name} is \"{text}\", which is not {what}."));
            T::placeholder()
        })
    }

    /// An address and port, if the variable is set.
    pub fn address_or_none(&mut self, name: &'static str) -> Option<SocketAddr> {
        self.optional(name).is_some().then(|| self.parsed(name, "an address and port, such as 127.0.0.1:53"))
    }

    /// A number of seconds, at least one.
    pub fn seconds(&mut self, name: &'static str) -> Duration {
        let seconds: u32 = self.parsed(name, "a whole number of seconds");
        // Zero would make timeouts expire at once, and periodic work spin.
        if seconds == 0 {
            self.mistakes.push(format!("{name} is 0; it must be at least 1 second."));
        }
        Duration::from_secs(u64::from(seconds))
    }

    /// A whole number from `least` to `most`.
    pub fn between(&mut self, name: &'static str, least: u32, most: u32) -> u32 {
        let number = self.parsed(name, "a whole number");
        if !(least..=most).contains(&number) {
            self.mistakes.push(format!("{name} is {number}; it must be from {least} to {most}."));
        }
        number
    }

    /// Whether the value is `yes`; the only other valid value is `no`.
    pub fn one_of(&mut self, name: &'static str, yes: &str, no: &str) -> bool {
        let text = self.text(name);
        if text != yes && text != no {
            self.mistakes.push(format!("{name} is \"{text}\"; it is either {yes} or {no}."));
        }
        text == yes
    }

    /// A value that is one of `names`.
    pub fn named(&mut self, name: &'static str, names: &[&str]) -> String {
        let text = self.text(name);
        if !names.contains(&text.as_str()) {
            self.mistakes.push(format!("{name} is \"{text}\"; it is one of {}.", names.join(", ")));
        }
        text
    }
}

/// A value that replaces an invalid one. It never takes effect: with a mistake, [`SettingsReader::finish`] returns no
/// settings.
pub trait Placeholder {
    /// A value that later checks accept, so that one mistake is not reported twice.
    fn placeholder() -> Self;
}

macro_rules! placeholder {
    ($($type:ty => $value:expr),*) => { $(impl Placeholder for $type { fn placeholder() -> Self { $value } })* };
}
placeholder!(u8 => 1, u16 => 1, u32 => 1, Ipv4Addr => Ipv4Addr::new(10, 0, 0, 0), SocketAddr => SocketAddr::from(([127, 0, 0, 1], 0)));

#[expect(clippy::disallowed_methods, reason = "the one place where the environment is read")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
