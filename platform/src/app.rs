//! Everything the running platform is made of, built once and handed to the doors.

use std::sync::Arc;

use crate::accounts::Accounts;
use crate::clock::Clock;
use crate::config::Config;
use crate::containers::ContainerHost;
use crate::db::Db;
use crate::instances::Instances;
use crate::quota::Quota;
use crate::secrets::Keys;

/// The parts. Each is cheap to clone; a door takes the two or three it needs.
#[derive(Clone)]
pub struct App {
    pub config: Arc<Config>,
    pub clock: Clock,
    pub keys: Keys,
    pub db: Db,
    pub accounts: Accounts,
    pub instances: Instances,
    pub quota: Quota,
    /// Only for `doctor` and health: containers are changed by the instances' reconciler alone.
    pub host: Arc<dyn ContainerHost>,
}
