//! WebAuthn ceremonies: the options for registering and using a passkey, and the verification of the browser's
//! response.
//!
//! This module has no database. Its callers store the ceremony's state on the server and delete it before they verify a
//! response, which prevents replay. Section numbers are those of WebAuthn Level 3: 7.1 verifies a registration, 7.2 an
//! authentication. webauthn-rs implements both, except where a comment says otherwise.

use std::time::Duration;

use anyhow::Context as _;
use berth_ground::error::{Error, Result};
use berth_ground::handle::Handle;
use berth_net::hosts::Hosts;
use serde_json::{Value, json};
use webauthn_rs::prelude::{
    AuthenticationResult, CredentialID, DiscoverableAuthentication, Passkey, PasskeyRegistration, PublicKeyCredential,
    RegisterPublicKeyCredential, Url, Webauthn, WebauthnBuilder, WebauthnError,
};

use super::rules;
use crate::db::AccountId;

/// Timeout of a ceremony: the default that WebAuthn Level 3 recommends.
pub(super) const CEREMONY_TIMEOUT: Duration = Duration::from_secs(300);

pub(super) struct PasskeyCeremonies(Webauthn);

/// Why a response was rejected. For the log only: the person reads the same sentence for every cause, so that an
/// attacker does not learn which check failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CeremonyError {
    #[error("the response is malformed")]
    Malformed(#[source] serde_json::Error),
    #[error("the ceremony ran inside a cross-origin frame")]
    Framed,
    #[error("the user handle is missing, or the credential belongs to another account")]
    WrongAccount,
    #[error("{0:?}")]
    Webauthn(WebauthnError),
}

impl From<WebauthnError> for CeremonyError {
    fn from(error: WebauthnError) -> Self {
        Self::Webauthn(error)
    }
}

/// An authentication response before its signature is verified: it claims an account and a credential.
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
    /// The relying party is the app host.
    pub(super) fn new(hosts: &Hosts) -> anyhow::Result<Self> {
        // The RP ID is the app host and not the apex: a page may use any RP ID that is a registrable suffix of its own
        // host, so with the apex every tenant's page at HANDLE.example.com could ask for our passkeys. The origin must
        // match exactly as well: webauthn-rs accepts subdomains and other ports only when configured to.
        let origin = Url::parse(&hosts.app_origin()).context("reading the app's origin")?;
        let webauthn = WebauthnBuilder::new(&hosts.app, &origin)
            .map_err(|error| anyhow::anyhow!("passkeys cannot be tied to {}: {error:?}", hosts.app))?
            .rp_name("Berth")
            .timeout(CEREMONY_TIMEOUT)
            .build()
            .map_err(|error| anyhow::anyhow!("passkeys cannot be set up: {error:?}"))?;
        Ok(Self(webauthn))
    }

    /// Options for `navigator.credentials.create`, and the ceremony's state as JSON for storage. User verification is
    /// required, attestation is not requested. An authenticator that holds one of `existing` is excluded.
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
        // webauthn-rs requests a credential that need not be discoverable. Our login sends no list of credentials
        // (`allowCredentials` is empty, so that it does not reveal which accounts exist), and only a discoverable
        // credential can answer that.
        let selection = &mut options["publicKey"]["authenticatorSelection"];
        selection["residentKey"] = json!("required");
        selection["requireResidentKey"] = json!(true);
        Ok((options, serde_json::to_string(&state).context("writing a ceremony's state")?))
    }

    /// Verifies a registration response and returns the new passkey. `Invalid`, with one sentence for every failure.
    pub(super) fn finish_passkey(&self, state: &str, answer: Value) -> Result<Passkey> {
        let state: PasskeyRegistration = serde_json::from_str(state).context("reading a ceremony's state")?;
        self.check_passkey(&state, answer).map_err(|refused| {
            tracing::info!(reason = %refused, "a new passkey was refused");
            passkey_refused()
        })
    }

    fn check_passkey(&self, state: &PasskeyRegistration, answer: Value) -> std::result::Result<Passkey, CeremonyError> {
        let answer: RegisterPublicKeyCredential = serde_json::from_value(answer).map_err(CeremonyError::Malformed)?;
        // 7.1 steps 10 and 11, `crossOrigin` and `topOrigin`: webauthn-rs checks only the first of them.
        if rules::is_framed(&answer.response.client_data_json) {
            return Err(CeremonyError::Framed);
        }
        // The other steps of 7.1: type, challenge, origin, RP ID hash, user presence and verification, algorithm.
        Ok(self.0.finish_passkey_registration(&answer, state)?)
    }

    /// Options for `navigator.credentials.get` without a list of credentials, and the ceremony's state as JSON for
    /// storage. The page sets `mediation`, which differs between the login button and autofill.
    pub(super) fn begin_log_in(&self) -> Result<(Value, String)> {
        let (mut options, state) = self
            .0
            .start_discoverable_authentication()
            .map_err(|error| anyhow::anyhow!("beginning a login: {error:?}"))?;
        options.mediation = None;
        let options = serde_json::to_value(options).context("writing login options")?;
        Ok((options, serde_json::to_string(&state).context("writing a ceremony's state")?))
    }

    /// Parses the account and credential that an authentication response claims. Nothing is verified yet.
    pub(super) fn read_claim(&self, answer: Value) -> std::result::Result<AssertionClaim, CeremonyError> {
        let answer: PublicKeyCredential = serde_json::from_value(answer).map_err(CeremonyError::Malformed)?;
        // 7.2 on `crossOrigin` and `topOrigin`: webauthn-rs checks neither at an authentication.
        if rules::is_framed(&answer.response.client_data_json) {
            return Err(CeremonyError::Framed);
        }
        // Without `allowCredentials`, 7.2 requires a user handle in the response. Ours is the account's id, chosen at
        // the registration; it is a claim until the signature is verified with a key stored for that account.
        let (account, _) =
            self.0.identify_discoverable_authentication(&answer).map_err(|_| CeremonyError::WrongAccount)?;
        Ok(AssertionClaim { account: AccountId(account), answer })
    }

    /// Verifies the assertion with the stored passkey, and updates the passkey's signature counter and backup state.
    pub(super) fn finish_log_in(
        &self,
        state: DiscoverableAuthentication,
        claim: &AssertionClaim,
        passkey: &mut Passkey,
    ) -> std::result::Result<AuthenticationResult, CeremonyError> {
        // 7.2: type, challenge, origin, RP ID hash, user presence, signature, signature counter.
        let result = self.0.finish_discoverable_authentication_v2(&claim.answer, state, &*passkey)?;
        // 7.2 leaves user verification to the relying party. The passkey is the only factor at most logins, so
        // possession of the authenticator (user presence) is not enough.
        if !result.user_verified() {
            return Err(WebauthnError::UserNotVerified.into());
        }
        // The last step of 7.2 updates the stored credential. The caller writes it by compare-and-set.
        passkey.update_credential(&result);
        Ok(result)
    }
}

/// The single sentence for a failed registration, whichever check rejected it.
pub(super) fn passkey_refused() -> Error {
    Error::invalid("passkey", "This passkey could not be checked. Please try again, and finish within five minutes.")
}
