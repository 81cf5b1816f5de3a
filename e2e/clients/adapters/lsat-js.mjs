// lsat-js reads challenges and writes credentials; the application sends them.
import lsatJs from "lsat-js";
import { job, pay, report, upload, url } from "./job.mjs";

const { Lsat } = lsatJs;

let lsat = job.token && Lsat.fromToken(`LSAT ${job.token}`);
const send = () => fetch(url, upload(lsat ? { Authorization: lsat.toToken() } : {}));

let response = await send();
if (response.status === 402) {
  lsat = Lsat.fromHeader(response.headers.get("www-authenticate"));
  lsat.setPreimage(await pay(lsat.invoice));
  response = await send();
}
const token = lsat && lsat.toToken();
await report(response, token && token.slice("LSAT ".length), token);
