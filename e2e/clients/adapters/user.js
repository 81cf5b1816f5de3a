// The user of the page that docs/CLIENTS.md shows, with a wallet in the browser: chooses the file, and tells the outcome.
window.SLUICE_SERVER = new URLSearchParams(location.search).get("server");
window.webln = {
  enable: async () => {},
  sendPayment: async (invoice) => (await fetch("/pay", { method: "POST", body: JSON.stringify({ invoice }) })).json(),
};

const tell = (outcome) => fetch("/outcome", { method: "POST", body: outcome });
window.onunhandledrejection = ({ reason }) => tell(JSON.stringify({ error: `${reason.name}: ${reason.message}` }));
window.onload = async () => {
  const output = document.querySelector("output");
  new MutationObserver(() => tell(output.value)).observe(output, { childList: true });
  const chosen = new DataTransfer();
  chosen.items.add(new File([await (await fetch("/file")).blob()], "file.bin"));
  const input = document.querySelector("input");
  input.files = chosen.files;
  input.dispatchEvent(new Event("change"));
};
