//! The verbs of a container host, as tests name them.

/// The verbs of [`ContainerHost`](crate::ContainerHost), by which tests count, delay, hold and fail calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    EnsureNetworks,
    EnsureVolume,
    Create,
    Start,
    Freeze,
    Thaw,
    Stop,
    RemoveContainer,
    BuryVolume,
    UnburyVolume,
    DestroyVolume,
    Inspect,
    List,
    Events,
    Load,
    HostReport,
}
