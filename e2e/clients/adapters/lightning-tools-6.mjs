// fetchWithL402 of @getalby/lightning-tools 6. What it has stored for an address it sends, and never pays again: an
// application whose stored token is answered 402 calls it again with an empty store.
import { fetchWithL402, MemoryStorage } from "lightning-tools-6/l402";
import { job, pay, report, upload, url } from "./job.mjs";

const webln = { enable: async () => {}, sendPayment: async (invoice) => ({ preimage: await pay(invoice) }) };

let store = new MemoryStorage();
if (job.token) {
  const [token, preimage] = job.token.split(":");
  store.setItem(url, JSON.stringify({ token, preimage }));
}
let response = await fetchWithL402(url, upload(), { webln, store });
if (job.token && response.status === 402) {
  store = new MemoryStorage();
  response = await fetchWithL402(url, upload(), { webln, store });
}
const stored = store.getItem(url) && JSON.parse(store.getItem(url));
const token = stored && `${stored.token}:${stored.preimage}`;
await report(response, token, `L402 ${token}`);
