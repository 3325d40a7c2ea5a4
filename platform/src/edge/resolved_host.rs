//! The result of resolving a request's host.

use std::sync::Arc;

use berth_net::hosts::VirtualHost;

use crate::instances::Instance;

/// The instance that a request is for, and the virtual host by which it was addressed.
#[derive(Clone)]
pub(super) struct ResolvedHost {
    pub(super) instance: Arc<Instance>,
    pub(super) virtual_host: Arc<VirtualHost>,
}
