// node.mjs FILE: uploads it, and pays with `sluice pay`. Needs: npm install @getalby/lightning-tools@9
import { execFileSync } from "node:child_process";
import { openAsBlob } from "node:fs";
import { fetchWithL402 } from "@getalby/lightning-tools/402/l402";

const url = `${process.env.SLUICE_SERVER ?? "http://127.0.0.1:8081"}/largefile`;
const wallet = {
  payInvoice: async ({ invoice }) => ({ preimage: execFileSync("sluice", ["pay", invoice], { encoding: "utf8" }).trim() }),
};

const body = new FormData();
body.set("file", await openAsBlob(process.argv[2]), "file");
const response = await fetchWithL402(url, { method: "POST", body }, { wallet });
console.log(await response.text());
process.exitCode = response.ok ? 0 : 1;
