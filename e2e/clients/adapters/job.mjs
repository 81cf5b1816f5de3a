// What every adapter in this folder shares: it is started with one job as JSON, and prints one outcome as JSON.
//
// job: gateway (URL), pay (URL of the wallet), token ("MACAROON:PREIMAGE" that was saved before, or null), file (path),
// copy (path to download into when the upload went well). Outcome: status, body, token (what the client holds now).
import { readFileSync, writeFileSync } from "node:fs";

export const job = JSON.parse(process.argv[2]);
export const url = `${job.gateway}/largefile`;

export async function pay(invoice) {
  const response = await fetch(job.pay, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ invoice }),
  });
  if (!response.ok) throw new Error(`the wallet says ${response.status}`);
  return (await response.json()).preimage;
}

/** What `fetch` takes to upload the job's file. */
export function upload(headers = {}) {
  const body = new FormData();
  body.set("file", new Blob([readFileSync(job.file)]), "file.bin");
  return { method: "POST", body, headers };
}

/** Downloads what was stored, with the client's own `authorization`, and prints the outcome. */
export async function report(response, token, authorization) {
  const body = await response.text();
  if (response.status === 200 && job.copy) {
    const stored = await fetch(`${job.gateway}/file/${JSON.parse(body).muid}`, {
      headers: { Authorization: authorization },
    });
    if (stored.status !== 200) throw new Error(`the download says ${stored.status}`);
    writeFileSync(job.copy, Buffer.from(await stored.arrayBuffer()));
  }
  console.log(JSON.stringify({ status: response.status, body, token }));
}
