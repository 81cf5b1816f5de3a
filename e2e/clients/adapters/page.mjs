// The clients of a browser. The page is not of the gateway's origin. It takes jobs (as in job.mjs) from where it came
// from, and brings outcomes there.
import { fetchWithL402 as fetchWithL402v9 } from "/lightning-tools-9.js";
import { fetchWithL402 as fetchWithL402v6, MemoryStorage } from "/lightning-tools-6.js";

async function pay(invoice) {
  const response = await fetch("/pay", { method: "POST", body: JSON.stringify({ invoice }) });
  if (!response.ok) throw new Error(`the wallet says ${response.status}`);
  return (await response.json()).preimage;
}

function upload(file, headers = {}) {
  const body = new FormData();
  body.set("file", file, "file.bin");
  return { method: "POST", body, headers };
}

/** Each gives [response, "MACAROON:PREIMAGE" or null]. */
const clients = {
  async fetch(url, file, saved) {
    const authorized = (token) => (token ? { Authorization: `L402 ${token}` } : {});
    let response = await fetch(url, upload(file, authorized(saved)));
    let token = saved;
    if (response.status === 402) {
      const challenge = response.headers.get("WWW-Authenticate");
      const [, macaroon, invoice] = /L402 macaroon="([^"]+)", invoice="([^"]+)"/.exec(challenge);
      token = `${macaroon}:${await pay(invoice)}`;
      response = await fetch(url, upload(file, authorized(token)));
    }
    return [response, token];
  },

  async "lightning-tools 9"(url, file, saved) {
    const wallet = { payInvoice: async ({ invoice }) => ({ preimage: await pay(invoice) }) };
    let credentials = saved && { header: "Authorization", value: `L402 ${saved}` };
    let response = await fetchWithL402v9(url, upload(file), credentials ? { wallet, credentials } : { wallet });
    if (credentials && response.status === 402) response = await fetchWithL402v9(url, upload(file), { wallet });
    credentials = response.payment?.credentials ?? credentials;
    return [response, credentials && credentials.value.replace(/^\w+ /, "")];
  },

  async "lightning-tools 6"(url, file, saved) {
    const webln = { enable: async () => {}, sendPayment: async (invoice) => ({ preimage: await pay(invoice) }) };
    let store = new MemoryStorage();
    if (saved) {
      const [token, preimage] = saved.split(":");
      store.setItem(url, JSON.stringify({ token, preimage }));
    }
    let response = await fetchWithL402v6(url, upload(file), { webln, store });
    if (saved && response.status === 402) {
      store = new MemoryStorage();
      response = await fetchWithL402v6(url, upload(file), { webln, store });
    }
    const stored = store.getItem(url) && JSON.parse(store.getItem(url));
    return [response, stored && `${stored.token}:${stored.preimage}`];
  },
};

async function run({ client, gateway, token: saved }) {
  const file = await (await fetch("/file")).blob();
  const [response, token] = await clients[client](`${gateway}/largefile`, file, saved);
  const body = await response.text();
  if (response.status === 200) {
    const stored = await fetch(`${gateway}/file/${JSON.parse(body).muid}`, {
      headers: { Authorization: `L402 ${token}` },
    });
    if (stored.status !== 200) throw new Error(`the download says ${stored.status}`);
    await fetch("/copy", { method: "POST", body: await stored.blob() });
  }
  return { status: response.status, body, token };
}

for (;;) {
  const asked = await fetch("/job");
  if (asked.status !== 200) continue;
  const outcome = await run(await asked.json()).catch((error) => ({ error: `${error.name}: ${error.message}` }));
  await fetch("/outcome", { method: "POST", body: JSON.stringify(outcome) });
}
