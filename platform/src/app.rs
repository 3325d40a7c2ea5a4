//! The composition root: builds every module of the platform once, in order, and hands them to the HTTP layers.

use std::sync::Arc;

use anyhow::Context as _;
use berth_containers::ContainerHost;
use berth_ground::clock::Clock;
use berth_ground::secrets::InstallationKeys;

use crate::accounts::{Accounts, AccountsContext};
use crate::alarms::Alarms;
use crate::certificates::{self, Certificates};
use crate::config::Config;
use crate::db::Db;
use crate::domains::Domains;
use crate::instances::Instances;
use crate::modules::{Finding, Module, Modules};
use crate::ops::{self, Metrics, Opened, StartFailure};
use crate::own_keys::OwnKeys;
use crate::quota::{self, Quota, QuotaModule};
use crate::sharing::Sharing;
use crate::webhooks::Webhooks;

/// Every module and shared resource of the platform. Each is cheap to clone; an HTTP layer takes the two or three that
/// it needs.
#[derive(Clone)]
pub struct App {
    pub config: Arc<Config>,
    pub clock: Clock,
    pub db: Db,
    pub accounts: Accounts,
    pub instances: Instances,
    pub quota: Quota,
    pub own_keys: OwnKeys,
    pub webhooks: Webhooks,
    pub alarms: Alarms,
    pub sharing: Sharing,
    pub domains: Domains,
    pub certificates: Certificates,
    /// The registry of all modules above.
    pub modules: Modules,
    pub metrics: Metrics,
    /// The client of the provisioner. `serve` creates the bridges through it; only the reconciler of `instances`
    /// changes containers.
    pub host: Arc<dyn ContainerHost>,
}

impl App {
    /// Builds every module on the existing database, without a migration; changes nothing in it.
    ///
    /// # Errors
    /// When the database cannot be opened, or holds something this version does not understand.
    pub async fn open(config: Config, clock: Clock, host: Arc<dyn ContainerHost>) -> anyhow::Result<Self> {
        let db = Db::open(&config.database_url).await?;
        Self::on(db, config, clock, host).await
    }

    /// Builds every module in order of dependency on `db`. Nothing listens yet, no task runs, and no container changes.
    ///
    /// # Errors
    /// When the database holds something this version does not understand.
    pub async fn on(db: Db, config: Config, clock: Clock, host: Arc<dyn ContainerHost>) -> anyhow::Result<Self> {
        let keys = InstallationKeys::derive(&config.secret, clock.clone());
        let instances = Instances::open(db.clone(), clock.clone(), Arc::clone(&host), &config)
            .await
            .context("reading the instances")?;
        let quota = Quota::open(db.clone(), clock.clone(), &keys, &config).context("opening the books")?;
        let webhooks = Webhooks::open(db.clone(), clock.clone()).await.context("reading the inboxes of webhooks")?;
        let alarms = Alarms::open(db.clone(), clock.clone(), instances.clone(), webhooks.clone())
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
            AccountsContext {
                instances: instances.clone(),
                certificates: certificates.clone(),
                sharing: sharing.clone(),
                domains: domains.clone(),
            },
        )?;
        // In the order in which an account's rows are deleted: before the instance, the rows with a foreign key to it
        // and the keys that it calls with. Caches are evicted in the reverse order, the instance first.
        let registered: [Arc<dyn Module>; _] = [
            Arc::new(sharing.clone()),
            Arc::new(alarms.clone()),
            Arc::new(webhooks.clone()),
            Arc::new(domains.clone()),
            Arc::new(own_keys.clone()),
            Arc::new(instances.clone()),
            Arc::new(QuotaModule { quota: quota.clone(), instances: instances.clone(), webhooks: webhooks.clone() }),
            Arc::new(certificates.clone()),
            Arc::new(accounts.clone()),
        ];
        let modules = Modules::new(registered);
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
            webhooks,
            alarms,
            sharing,
            domains,
            certificates,
            modules,
            metrics,
            host,
        })
    }

    /// Refuses a `BERTH_SECRET` that is not the one of the database, before anything is encrypted or signed with it;
    /// records it in a database that has none.
    ///
    /// # Errors
    /// A sentence that says what to set; or when the database does not answer.
    pub async fn confirm_secret(&self) -> anyhow::Result<()> {
        ops::confirm_secret(&self.db, &self.modules, &self.config.secret).await
    }

    /// Runs the checks of `berth doctor`: opens each part that can be opened, and reports each problem in a sentence.
    /// Changes nothing.
    pub async fn examine(config: &Config, clock: Clock, host: Arc<dyn ContainerHost>) -> Vec<Finding> {
        let opened = match Db::open(&config.database_url).await {
            Ok(db) => {
                // Safe beside a running platform: building the modules reads rows, and starts no task.
                let modules = match Self::on(db.clone(), config.clone(), clock.clone(), Arc::clone(&host)).await {
                    Ok(app) => Ok(app.modules),
                    Err(error) => {
                        Err(StartFailure { error, findings: Self::examine_database(config, clock, &db).await })
                    }
                };
                Ok(Opened { db, modules })
            }
            Err(error) => Err(error),
        };
        ops::examine(config, opened, &*host).await
    }

    /// The checks that need no other module: of the money, and of the weekly certificates.
    async fn examine_database(config: &Config, clock: Clock, db: &Db) -> Vec<Finding> {
        let mut findings = quota::money_findings(db).await;
        match Certificates::open(db.clone(), clock, config.certificates_a_week).await {
            Ok(certificates) => findings.extend(certificates.doctor_findings().await),
            Err(error) => findings.push(Finding::broken(certificates::DOCTOR_SUBJECT, error.to_string())),
        }
        findings
    }
}
