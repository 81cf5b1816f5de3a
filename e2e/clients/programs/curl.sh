#!/usr/bin/env bash
# curl.sh FILE: uploads it, and pays with `sluice pay`.
set -euo pipefail
url=${SLUICE_SERVER:-http://127.0.0.1:8081}/largefile
member() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; } # a text out of one line of JSON

offer=$(curl -sS -F "file=@$1" "$url") # 402
preimage=$(sluice pay "$(member invoice <<< "$offer")")
curl -sS --fail-with-body -H "Authorization: L402 $(member macaroon <<< "$offer"):$preimage" -F "file=@$1" "$url"
