//! A fake browser with a software passkey authenticator and a one-time-code app: valid ceremonies, and the forged ones
//! that must fail.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use berth_ground::clock::Clock;
use passkey::authenticator::{Authenticator, UiHint, UserCheck, UserValidationMethod};
use passkey::client::Client;
use passkey::crypto::rust_crypto::RustCryptoBackend;
use passkey::types::Passkey;
use passkey::types::ctap2::{Aaguid, Ctap2Error};
use passkey::types::webauthn::{CredentialCreationOptions, CredentialRequestOptions};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use totp_rs::{Builder, Secret};

/// A person who agrees to whatever the browser asks, with a finger on the sensor.
struct Agreeable;

#[async_trait::async_trait]
impl UserValidationMethod for Agreeable {
    type PasskeyItem = Passkey;

    async fn check_user<'a>(
        &self,
        _hint: UiHint<'a, Passkey>,
        _presence: bool,
        _verification: bool,
    ) -> Result<UserCheck, Ctap2Error> {
        Ok(UserCheck { presence: true, verification: true })
    }

    fn is_presence_enabled(&self) -> bool {
        true
    }

    fn is_verification_enabled(&self) -> Option<bool> {
        Some(true)
    }
}

/// A fake browser. Its authenticator holds one discoverable passkey, which it reports as synced, as most are.
#[derive(Clone)]
pub struct PasskeyBrowser {
    /// Where the page says it was loaded from. The authenticator signs whatever stands here.
    pub origin: String,
    /// More members of the client data, such as `crossOrigin`.
    pub client_data: Value,
    /// Whether the authenticator counts its signatures, as security keys do.
    counts: bool,
    passkey: Option<Passkey>,
}

impl PasskeyBrowser {
    /// An honest browser on the app's own page, with nothing in it yet.
    pub fn at_home() -> Self {
        let origin = "https://app.example.com".into();
        Self { origin, client_data: json!({"crossOrigin": false}), counts: false, passkey: None }
    }

    /// A browser with an authenticator that increments a signature counter.
    pub fn that_counts() -> Self {
        Self { counts: true, ..Self::at_home() }
    }

    /// The same passkey on a page of another origin.
    #[must_use]
    pub fn on_page_of(&self, origin: &str) -> Self {
        Self { origin: origin.into(), ..self.clone() }
    }

    /// The same passkey, with other members in the client data.
    #[must_use]
    pub fn saying(&self, client_data: Value) -> Self {
        Self { client_data, ..self.clone() }
    }

    /// Answers `navigator.credentials.create` and keeps the passkey.
    pub async fn create(&mut self, options: &Value) -> Value {
        let (client_data, hash) = self.client_data("webauthn.create", options);
        let request: CredentialCreationOptions = serde_json::from_value(options.clone()).unwrap();
        let mut client = Client::new(self.authenticator());
        let made = client.register(&"https://app.example.com".parse().unwrap(), request, Some(hash)).await.unwrap();
        self.passkey = client.authenticator().store().clone();
        with_client_data(serde_json::to_value(made).unwrap(), &client_data)
    }

    /// Answers `navigator.credentials.get`.
    pub async fn get(&self, options: &Value) -> Value {
        let (client_data, hash) = self.client_data("webauthn.get", options);
        let request: CredentialRequestOptions = serde_json::from_value(options.clone()).unwrap();
        let mut client = Client::new(self.authenticator());
        let made = client.authenticate(&"https://app.example.com".parse().unwrap(), request, Some(hash)).await.unwrap();
        with_client_data(serde_json::to_value(made).unwrap(), &client_data)
    }

    fn authenticator(&self) -> Authenticator<Option<Passkey>, Agreeable, RustCryptoBackend> {
        let mut authenticator =
            Authenticator::new(Aaguid::new_empty(), self.passkey.clone(), Agreeable, RustCryptoBackend);
        authenticator.set_make_credentials_with_signature_counter(self.counts);
        authenticator
    }

    /// What a browser would write about the ceremony, and the hash that is signed in its place.
    fn client_data(&self, kind: &str, options: &Value) -> (String, Vec<u8>) {
        let mut data = json!({"type": kind, "challenge": options["publicKey"]["challenge"], "origin": self.origin});
        data.as_object_mut().unwrap().extend(self.client_data.as_object().unwrap().clone());
        let text = data.to_string();
        let hash = Sha256::digest(text.as_bytes()).to_vec();
        (text, hash)
    }
}

fn with_client_data(mut answer: Value, client_data: &str) -> Value {
    answer["response"]["clientDataJSON"] = json!(URL_SAFE_NO_PAD.encode(client_data));
    answer
}

/// The app that shows six digits, set up with the secret that a sign-up shows.
#[derive(Clone)]
pub struct OneTimeCodeApp(String);

impl OneTimeCodeApp {
    /// Takes the base32 secret.
    pub fn with(secret: &str) -> Self {
        Self(secret.to_owned())
    }

    /// The digits it shows now.
    pub fn code(&self, clock: &Clock) -> String {
        let totp = Builder::new().with_secret(Secret::try_from_base32(&self.0).unwrap()).build().unwrap();
        totp.generate(clock.now().seconds().unsigned_abs()).to_string()
    }

    /// Six digits that it does not show now, nor just before or after.
    pub fn wrong_code(&self, clock: &Clock) -> String {
        let totp = Builder::new().with_secret(Secret::try_from_base32(&self.0).unwrap()).build().unwrap();
        let now = clock.now().seconds().unsigned_abs();
        (0..).map(|n| format!("{n:06}")).find(|code| totp.check(code, now).is_none()).unwrap()
    }
}
