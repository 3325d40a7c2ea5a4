//! Everything the running platform is made of, built once and handed to the doors.

use std::sync::Arc;

use anyhow::Context as _;

use crate::accounts::{Accounts, Belongings};
use crate::alarms::Alarms;
use crate::certificates::Certificates;
use crate::clock::Clock;
use crate::config::Config;
use crate::containers::ContainerHost;
use crate::db::Db;
use crate::domains::Domains;
use crate::instances::Instances;
use crate::mailbox::Mailbox;
use crate::ops::Metrics;
use crate::own_keys::OwnKeys;
use crate::quota::Quota;
use crate::secrets::InstallationKeys;
use crate::sharing::Sharing;

/// The parts. Each is cheap to clone; a door takes the two or three it needs.
#[derive(Clone)]
pub struct App {
    pub config: Arc<Config>,
    pub clock: Clock,
    pub db: Db,
    pub accounts: Accounts,
    pub instances: Instances,
    pub quota: Quota,
    pub own_keys: OwnKeys,
    pub mailbox: Mailbox,
    pub alarms: Alarms,
    pub sharing: Sharing,
    pub domains: Domains,
    pub certificates: Certificates,
    pub metrics: Metrics,
    /// The seam to the provisioner. `serve` makes the bridges through it; containers are changed by the instances'
    /// reconciler alone.
    pub host: Arc<dyn ContainerHost>,
}

impl App {
    /// Builds every part on the database that is there; changes nothing in it.
    ///
    /// # Errors
    /// When the database cannot be opened, or holds something this version does not understand.
    pub async fn open(config: Config, clock: Clock, host: Arc<dyn ContainerHost>) -> anyhow::Result<Self> {
        let db = Db::open(&config.database_url).await?;
        Self::on(db, config, clock, host).await
    }

    /// Builds every part in order on `db`. Nothing listens and nothing happens to a container yet.
    ///
    /// # Errors
    /// When the database holds something this version does not understand.
    pub async fn on(db: Db, config: Config, clock: Clock, host: Arc<dyn ContainerHost>) -> anyhow::Result<Self> {
        let keys = InstallationKeys::derive(&config.secret, clock.clone());
        let instances = Instances::open(db.clone(), clock.clone(), Arc::clone(&host), &config)
            .await
            .context("reading the instances")?;
        let quota = Quota::open(db.clone(), clock.clone(), &keys, &config).context("opening the books")?;
        let mailbox = Mailbox::open(db.clone(), clock.clone()).await.context("reading the mailboxes")?;
        let alarms = Alarms::open(db.clone(), clock.clone(), instances.clone(), mailbox.clone())
            .await
            .context("reading the alarms")?;
        let sharing =
            Sharing::open(db.clone(), clock.clone(), instances.clone()).await.context("reading what is shared")?;
        let domains = Domains::open(db.clone(), clock.clone(), instances.clone(), &config)
            .await
            .context("reading the domains")?;
        let certificates = Certificates::open(db.clone(), clock.clone(), config.certificates_a_week)
            .await
            .context("reading who has a certificate")?;
        let own_keys = OwnKeys::open(db.clone(), clock.clone(), keys.clone(), &config)
            .await
            .context("reading who has own keys")?;
        let accounts = Accounts::new(
            db.clone(),
            keys,
            clock.clone(),
            config.hosts.clone(),
            config.signups_open,
            Belongings {
                instances: instances.clone(),
                alarms: alarms.clone(),
                mailbox: mailbox.clone(),
                sharing: sharing.clone(),
                domains: domains.clone(),
                own_keys: own_keys.clone(),
            },
        )?;
        let metrics = Metrics::new();
        let config = Arc::new(config);
        Ok(Self {
            config,
            clock,
            db,
            accounts,
            instances,
            quota,
            own_keys,
            mailbox,
            alarms,
            sharing,
            domains,
            certificates,
            metrics,
            host,
        })
    }
}
