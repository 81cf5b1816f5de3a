// fetchWithL402 of @getalby/lightning-tools 9. It never pays where it is handed credentials: an application whose
// credentials are answered 402 calls it again without them.
import { fetchWithL402 } from "@getalby/lightning-tools/402/l402";
import { job, pay, report, upload, url } from "./job.mjs";

const wallet = { payInvoice: async ({ invoice }) => ({ preimage: await pay(invoice) }) };

let credentials = job.token && { header: "Authorization", value: `L402 ${job.token}` };
let response = await fetchWithL402(url, upload(), credentials ? { wallet, credentials } : { wallet });
if (credentials && response.status === 402) response = await fetchWithL402(url, upload(), { wallet });
credentials = response.payment?.credentials ?? credentials;
await report(response, credentials && credentials.value.replace(/^\w+ /, ""), credentials?.value);
