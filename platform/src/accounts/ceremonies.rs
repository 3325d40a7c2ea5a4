//! Passkey ceremonies: what the browser is asked, and whether its answer holds. No database; whoever calls keeps the state
//! server-side, takes it out before finishing, and so makes each answer count once.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use webauthn_rs::prelude::{
    AuthenticationResult, CredentialID, DiscoverableAuthentication, Passkey, PasskeyRegistration, PublicKeyCredential,
    RegisterPublicKeyCredential, Url, Webauthn, WebauthnBuilder, WebauthnError,
};

use super::rules;
use crate::db::AccountId;
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::hosts::Hosts;

/// How long a person has for a ceremony (the default of WebAuthn Level 3).
pub(super) const TIME: Duration = Duration::from_secs(300);

pub(super) struct PasskeyCeremonies(Webauthn);

/// Why an answer does not count. For the log; the person gets one sentence for all of them.
#[derive(Debug, thiserror::Error)]
pub(super) enum CeremonyError {
    #[error("the answer is not what a browser sends")]
    Malformed(#[source] serde_json::Error),
    #[error("the ceremony took place inside another site's frame")]
    Framed,
    #[error("the user handle is missing or another account's")]
    NotTheirs,
    #[error("{0:?}")]
    Webauthn(WebauthnError),
}

impl From<WebauthnError> for CeremonyError {
    fn from(error: WebauthnError) -> Self {
        Self::Webauthn(error)
    }
}

/// A login's answer before its signature is checked: which credential claims to be whose.
pub(super) struct AssertionClaim {
    pub(super) account: AccountId,
    answer: PublicKeyCredential,
}

impl AssertionClaim {
    pub(super) fn credential_id(&self) -> &[u8] {
        self.answer.get_credential_id()
    }
}

impl PasskeyCeremonies {
    /// The RP ID is the app host itself, so that no tenant's page can claim it; the one origin must match exactly
    /// (webauthn-rs allows neither subdomains nor other ports unless told to).
    pub(super) fn new(hosts: &Hosts) -> anyhow::Result<Self> {
        let origin = Url::parse(&hosts.app_origin()).context("reading the app's origin")?;
        let webauthn = WebauthnBuilder::new(&hosts.app, &origin)
            .map_err(|error| anyhow::anyhow!("passkeys cannot be tied to {}: {error:?}", hosts.app))?
            .rp_name("Berth")
            .timeout(TIME)
            .build()
            .map_err(|error| anyhow::anyhow!("passkeys cannot be set up: {error:?}"))?;
        Ok(Self(webauthn))
    }

    /// Options for `navigator.credentials.create`, and the state to keep. User verification is required, attestation
    /// none; devices that hold one of `existing` are left out.
    pub(super) fn begin_passkey(
        &self,
        account: AccountId,
        handle: &Handle,
        existing: Vec<CredentialID>,
    ) -> Result<(Value, String)> {
        let (options, state) = self
            .0
            .start_passkey_registration(account.0, handle.as_str(), handle.as_str(), Some(existing))
            .map_err(|error| anyhow::anyhow!("beginning a passkey: {error:?}"))?;
        let mut options = serde_json::to_value(options).context("writing passkey options")?;
        // The library asks that the passkey is not discoverable; then the login button without a list would not find it.
        let selection = &mut options["publicKey"]["authenticatorSelection"];
        selection["residentKey"] = json!("required");
        selection["requireResidentKey"] = json!(true);
        Ok((options, serde_json::to_string(&state).context("writing a ceremony's state")?))
    }

    /// The passkey that the browser made. `Invalid` with one sentence, whatever is wrong.
    pub(super) fn finish_passkey(&self, state: &str, answer: Value) -> Result<Passkey> {
        let state: PasskeyRegistration = serde_json::from_str(state).context("reading a ceremony's state")?;
        self.check_passkey(&state, answer).map_err(|refused| {
            tracing::info!(reason = %refused, "a new passkey was refused");
            passkey_refused()
        })
    }

    fn check_passkey(&self, state: &PasskeyRegistration, answer: Value) -> std::result::Result<Passkey, CeremonyError> {
        let answer: RegisterPublicKeyCredential = serde_json::from_value(answer).map_err(CeremonyError::Malformed)?;
        if rules::is_framed(&answer.response.client_data_json) {
            return Err(CeremonyError::Framed);
        }
        Ok(self.0.finish_passkey_registration(&answer, state)?)
    }

    /// Options for `navigator.credentials.get` without a list of credentials, and the state to keep. The page decides
    /// about `mediation`: it differs between a button and a form field.
    pub(super) fn begin_log_in(&self) -> Result<(Value, String)> {
        let (mut options, state) = self
            .0
            .start_discoverable_authentication()
            .map_err(|error| anyhow::anyhow!("beginning a login: {error:?}"))?;
        options.mediation = None;
        let options = serde_json::to_value(options).context("writing login options")?;
        Ok((options, serde_json::to_string(&state).context("writing a ceremony's state")?))
    }

    /// Reads who the answer claims to come from.
    pub(super) fn read_claim(&self, answer: Value) -> std::result::Result<AssertionClaim, CeremonyError> {
        let answer: PublicKeyCredential = serde_json::from_value(answer).map_err(CeremonyError::Malformed)?;
        if rules::is_framed(&answer.response.client_data_json) {
            return Err(CeremonyError::Framed);
        }
        let (account, _) =
            self.0.identify_discoverable_authentication(&answer).map_err(|_| CeremonyError::NotTheirs)?;
        Ok(AssertionClaim { account: AccountId(account), answer })
    }

    /// Checks the claim's signature with the stored passkey, and brings that one's counter and backup state up to date.
    pub(super) fn finish_log_in(
        &self,
        state: DiscoverableAuthentication,
        claim: &AssertionClaim,
        passkey: &mut Passkey,
    ) -> std::result::Result<AuthenticationResult, CeremonyError> {
        let result = self.0.finish_discoverable_authentication_v2(&claim.answer, state, &*passkey)?;
        if !result.user_verified() {
            return Err(WebauthnError::UserNotVerified.into());
        }
        passkey.update_credential(&result);
        Ok(result)
    }
}

/// The one sentence for a new passkey that cannot be taken.
pub(super) fn passkey_refused() -> Error {
    Error::invalid("passkey", "This passkey could not be checked. Please try again, and finish within five minutes.")
}
