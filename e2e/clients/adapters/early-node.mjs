// Sends bodies that are answered before they have been read, by node's fetch. The job: url, client, cells.
// Prints for each cell what went wrong, as in early-python.py.
const { url, client, cells } = JSON.parse(process.argv[2]);

const HEAD =
  '--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\nContent-Type: application/octet-stream\r\n\r\n';
const TAIL = "\r\n--b--\r\n";
const MULTIPART = { "Content-Type": "multipart/form-data; boundary=b" };
const PIECE = 64 * 1024;

function streamed(size) {
  let left = size;
  return new ReadableStream({
    start: (controller) => controller.enqueue(Buffer.from(HEAD)),
    pull(controller) {
      if (left > 0) {
        const piece = Math.min(PIECE, left);
        left -= piece;
        controller.enqueue(Buffer.alloc(piece, "x"));
      } else {
        controller.enqueue(Buffer.from(TAIL));
        controller.close();
      }
    },
  });
}

const makers = {
  FormData(size) {
    const form = new FormData();
    form.set("file", new Blob([Buffer.alloc(size, "x")]), "f");
    return () => ({ body: form, headers: {} });
  },
  Buffer(size) {
    const body = Buffer.concat([Buffer.from(HEAD), Buffer.alloc(size, "x"), Buffer.from(TAIL)]);
    return () => ({ body, headers: MULTIPART });
  },
  stream: (size) => () => ({ body: streamed(size), headers: MULTIPART, duplex: "half" }),
};

const problems = [];
for (const { size, headers, status, code, repeat } of cells) {
  const make = makers[client](size);
  const wrong = [];
  for (let i = 0; i < repeat; i++) {
    const { headers: own, ...rest } = make();
    try {
      const answer = await fetch(url, {
        method: "POST", ...rest, headers: { ...own, ...headers }, signal: AbortSignal.timeout(30_000),
      });
      const text = await answer.text();
      if (answer.status !== status || JSON.parse(text).code !== code) wrong.push(`${answer.status} ${text.slice(0, 100)}`);
    } catch (error) {
      wrong.push(`${error.name}: ${error.cause?.message ?? error.message}`);
    }
  }
  problems.push(wrong);
}
console.log(JSON.stringify(problems));
