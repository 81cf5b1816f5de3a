#!/usr/bin/env bash
# cli.sh FILE: uploads it, and pays with the embedded wallet. Without --pay it shows the invoice and waits for you to pay.
exec sluice upload --paid --pay --json "$1"
