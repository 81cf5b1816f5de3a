// The npm package macaroon narrows (or widens) a token: prints it with the job's `caveats` appended.
//
// Its exportBinary cannot write a token of more than three caveats (its buffer doubles with every field, up to
// "Invalid typed array length"), so unless the job says `binary` the bytes are written here, from its exportJSON.
import { bytesToBase64, importMacaroon } from "macaroon";

const { token, caveats, binary } = JSON.parse(process.argv[2]);
const [base64, preimage] = token.split(":");
const macaroon = importMacaroon(base64);
const text = new TextEncoder();
for (const caveat of caveats) macaroon.addFirstPartyCaveat(text.encode(caveat));

/** One field of the V2 format: type, length, bytes. */
function field(type, data) {
  const long = data.length >= 0x80;
  return [type, ...(long ? [(data.length & 0x7f) | 0x80, data.length >> 7] : [data.length]), ...data];
}

function v2() {
  const bytes = [2, ...field(1, text.encode(macaroon.location)), ...field(2, macaroon.identifier), 0];
  for (const caveat of macaroon.caveats) bytes.push(...field(2, caveat.identifier), 0);
  return Uint8Array.from([...bytes, 0, ...field(6, macaroon.signature)]);
}

console.log(`${bytesToBase64(binary ? macaroon.exportBinary() : v2())}:${preimage}`);
