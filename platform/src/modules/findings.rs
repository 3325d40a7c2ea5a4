//! Doctor findings: the result of one check of an installation, as a sentence for the operator.

/// The result of one check.
#[derive(Clone, Debug)]
pub struct Finding {
    pub verdict: Verdict,
    /// The thing examined, in a word or two.
    pub subject: &'static str,
    /// The result and, unless it is fine, the remedy.
    pub sentence: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Fine,
    /// Works, but less well or less safely than it could.
    Warning,
    /// Does not work.
    Broken,
}

impl Finding {
    #[must_use]
    pub fn fine(subject: &'static str, sentence: String) -> Self {
        Self { verdict: Verdict::Fine, subject, sentence }
    }

    #[must_use]
    pub fn warning(subject: &'static str, sentence: String) -> Self {
        Self { verdict: Verdict::Warning, subject, sentence }
    }

    #[must_use]
    pub fn broken(subject: &'static str, sentence: String) -> Self {
        Self { verdict: Verdict::Broken, subject, sentence }
    }
}
