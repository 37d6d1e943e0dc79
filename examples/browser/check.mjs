// Opens the page at the address given in headless Chromium, waits for its episodes, prints their lengths, and fails if
// the console had an error. A second argument is the file of a screenshot.
import { chromium } from "playwright-core";

const [address, picture] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
const errors = [];
try {
  const page = await browser.newPage();
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  await page.goto(`${address}/index.html?fast`);
  await page.waitForSelector("#status[data-done]", { timeout: 60_000 });
  console.log(await page.textContent("#status"));
  if (picture) await page.screenshot({ path: picture });
} finally {
  await browser.close();
}
if (errors.length) throw new Error(errors.join("\n"));
