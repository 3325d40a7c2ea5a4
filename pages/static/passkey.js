// Passkey ceremonies: requests a challenge, has the browser answer it, and sends the response.
const button = document.querySelector('[data-passkey]');
const note = document.querySelector('[data-note]');
const autofill = new AbortController();
let offered;

const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), (c) => c.charCodeAt(0));
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)))
  .replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');

async function post(url, body) {
  const answer = await fetch(url, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Accept: 'application/json' },
    body: JSON.stringify(body),
  });
  const json = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(json.detail), { told: json.detail });
  return json;
}

function readOptions({ publicKey }) {
  const credentials = (list) => list?.map((one) => ({ ...one, id: bytes(one.id) }));
  const options = { ...publicKey, challenge: bytes(publicKey.challenge) };
  if (publicKey.user) options.user = { ...publicKey.user, id: bytes(publicKey.user.id) };
  if (publicKey.excludeCredentials) options.excludeCredentials = credentials(publicKey.excludeCredentials);
  if (publicKey.allowCredentials) options.allowCredentials = credentials(publicKey.allowCredentials);
  return options;
}

function writeAnswer(credential) {
  const { response } = credential;
  const out = { clientDataJSON: text(response.clientDataJSON) };
  if (response.attestationObject) {
    out.attestationObject = text(response.attestationObject);
    out.transports = response.getTransports?.() ?? [];
  } else {
    out.authenticatorData = text(response.authenticatorData);
    out.signature = text(response.signature);
    out.userHandle = response.userHandle ? text(response.userHandle) : null;
  }
  return {
    id: credential.id,
    rawId: text(credential.rawId),
    type: credential.type,
    response: out,
    extensions: credential.getClientExtensionResults(),
  };
}

function sentence(error) {
  if (error.told) return error.told;
  switch (error.name) {
    case 'NotAllowedError':
      return 'The passkey prompt was closed or timed out. Nothing is lost; please try again.';
    case 'InvalidStateError':
      return 'This device already has a passkey for your account. Try another device or a security key.';
    case 'SecurityError':
      return 'Your browser does not allow passkeys at this address.';
    case 'NotSupportedError':
    case 'ConstraintError':
      return 'This device cannot create a passkey that works here. Try a phone or a security key.';
    default:
      return 'That did not work. Please check your connection and try again.';
  }
}

function say(words) {
  note.textContent = words;
  note.className = words ? 'note bad' : 'note';
}

async function ceremony(extra) {
  const { passkey: kind, challenge, answer } = button.dataset;
  const options = { publicKey: readOptions(await post(challenge, {})), ...extra };
  const credential = kind === 'create'
    ? await navigator.credentials.create(options)
    : await navigator.credentials.get(options);
  button.disabled = true;
  const { next } = await post(answer, writeAnswer(credential));
  location.assign(next);
}

async function pressed() {
  say('');
  button.disabled = true;
  autofill.abort();
  // The challenge of the autofill offer must not arrive after this one: its cookie would replace this one's.
  await offered;
  try {
    await ceremony({});
  } catch (error) {
    say(sentence(error));
    button.disabled = false;
    button.focus();
  }
}

// Offers passkeys in a field's autofill, where the browser supports it (WebAuthn conditional mediation).
async function offer() {
  if (!('autofill' in button.dataset)) return;
  if (!await PublicKeyCredential.isConditionalMediationAvailable?.()) return;
  document.querySelector('[data-conditional]').hidden = false;
  try {
    await ceremony({ mediation: 'conditional', signal: autofill.signal });
  } catch (error) {
    if (error.name === 'AbortError') return;
    button.disabled = false;
    if (error.told) say(sentence(error));
  }
}

if (window.PublicKeyCredential) {
  offered = offer();
  button.addEventListener('click', pressed);
} else {
  button.disabled = true;
  say('This browser does not support passkeys. Current versions of all major browsers do.');
}
