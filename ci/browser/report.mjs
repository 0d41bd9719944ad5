// Opens HTML reports in a real Chromium and uses them as people do.
//
//   node report.mjs PLAYWRIGHT REPORT HOSTILE BIG PAST SCREENSHOTS
//
// PLAYWRIGHT is the directory of playwright-core, REPORT the report of the reference results of several kernels,
// HOSTILE one of a
// run whose every text tries to be markup, BIG one of very many cells, PAST one
// whose cells have a history in all runs; SCREENSHOTS is a directory for pictures.
// Ends with 1 at the first thing
// that is not as it should be. How long things take is printed and not judged.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [playwright, report, hostile, big, past, pictures] = process.argv.slice(2);
const { chromium } = createRequire(import.meta.url)(playwright);
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const args = [
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const browser = await chromium.launch({ executablePath, headless: true, args });

/** Opens a view of a report. What the page complains of, asks for or executes is an error when it is closed. */
async function open(file, hash, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const bad = [];
  page.on(
    "console",
    (message) => ["error", "warning"].includes(message.type()) && bad.push(`console: ${message.text()}`),
  );
  page.on("pageerror", (error) => bad.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => {
    bad.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("request", (request) => request.url().startsWith("file:") || bad.push(`request: ${request.url()}`));
  await page.goto(pathToFileURL(file) + hash);
  return {
    page,
    close: async () => {
      assert.deepEqual(bad, []);
      await context.close();
    },
  };
}

const tests = {
  async "a cell has what became of it in all runs"() {
    const { page, close } = await open(past, "#/cell/memtype/overlap-uc-above@non-coherent-dma");
    const rows = await page.locator("#past tbody tr").allTextContents();
    assert.equal(rows.length, 2, "a row for each kind of host");
    assert.ok(rows.some((row) => /xfail.*6\.1.*first.*kvm-mtrr-uc-above/s.test(row)), rows.join("\n"));
    await page.locator("#past").screenshot({ path: `${pictures}/past.png` });
    await close();
  },

  async "the overview sums up kernels and suites"() {
    const { page, close } = await open(report, "#/");
    assert.match(await page.textContent("h1"), /as expected/);
    assert.ok((await page.locator(".platforms tbody tr").count()) >= 3);
    // Each mark has a sign and a word, so that none is told by its colour alone.
    const marks = await page.locator(".platforms .mark").allTextContents();
    assert.ok(
      marks.length > 0 &&
        marks.every((text) => /^.(pass|fail|xfail|xpass|skip|inconclusive|error|timeout|crash|not-run)$/.test(text)),
      marks.join(),
    );
    await page.screenshot({ path: `${pictures}/overview.png` });
    await close();
  },

  async "a filter in words finds cells, and says what it does not understand"() {
    const { page, close } = await open(report, "#/");
    await page.keyboard.press("/");
    await page.waitForSelector("#filter:focus");
    const all = await count(page);
    await page.keyboard.type("mtrr=uc pat=wc");
    const some = await count(page);
    await page.keyboard.type(" verdict!=pass");
    const fewer = await count(page);
    assert.ok(all > some && some > fewer, `${all} ${some} ${fewer}`);
    assert.match(page.url(), /#\/cells\?q=mtrr%3Duc/);
    await page.fill("#filter", "mttr=uc");
    assert.match(await page.textContent(".error"), /no `mttr`.*did you mean `mtrr`/);
    for (const [query, right] of [
      ["verdict=xfail", /xfail/],
      ["family=pat-msr", /^.*pat-msr\//],
      ["kernel=6.1 deviation=*short*", /short-mask/],
    ]) {
      await page.fill("#filter", query);
      const rows = await page.locator(".row").allTextContents();
      assert.ok(rows.length > 0 && rows.every((text) => right.test(text)), `${query}: ${rows.join("\n")}`);
    }
    await page.screenshot({ path: `${pictures}/cells.png` });
    await close();
  },

  async "the keyboard goes everywhere"() {
    const { page, close } = await open(report, "#/");
    for (const [key, title] of [
      ["m", "Matrix"],
      ["c", "Changes"],
      ["l", "Cells"],
      ["?", "About this report"],
      ["o", "All is as expected"],
    ]) {
      await page.keyboard.press(key);
      await page.waitForFunction((title) => document.querySelector("h1").textContent === title, title);
    }
    await page.keyboard.press("l");
    await page.waitForSelector("#filter");
    for (const key of ["j", "j", "k", "ArrowDown"]) await page.keyboard.press(key);
    const second = await page.textContent(".row.selected .id");
    await page.keyboard.press("Enter");
    await page.waitForSelector("h1.cell");
    assert.equal(await page.textContent("h1.cell"), second);
    await page.keyboard.press("n");
    await page.waitForFunction((before) => document.querySelector("h1.cell").textContent !== before, second);
    await page.keyboard.press("p");
    await page.waitForFunction((before) => document.querySelector("h1.cell").textContent === before, second);
    await page.keyboard.press("u");
    await page.waitForSelector("#filter");
    await page.keyboard.press("Tab");
    assert.notEqual(await page.evaluate(() => document.activeElement.tagName), "BODY");
    await close();
  },

  async "a cell shows what was done, seen and expected, and why"() {
    const { page, close } = await open(report, "#/cell/memtype/short-mask@non-coherent-dma?side=0");
    const text = await page.textContent("main");
    for (const part of [
      "xfail",
      "kvm-mtrr-short-mask",
      "Not as predicted",
      "source",
      "vmx_get_mt_mask",
      "kvm-memtype run",
      "kvm-memtype explain",
      "History",
      "gfn",
    ]) {
      assert.ok(text.includes(part), part);
    }
    assert.ok((await page.locator(".plot svg .dot title").count()) > 0, "no time is plotted");
    assert.ok((await page.locator(".plot .reference").count()) > 0, "no reference is plotted");
    assert.match(await page.locator(".plain.mono tbody").textContent(), /UC rwx to frame/);
    await page.click(".tabs a >> nth=1");
    await page.waitForFunction(() => document.querySelector(".verdict-box").textContent.includes("pass"));
    await page.screenshot({ path: `${pictures}/cell.png`, fullPage: true });
    await close();
  },

  async "the matrix shows what was seen, and where it departs"() {
    const { page, close } = await open(report, "#/matrix?vm=non-coherent-dma");
    const [old, young] = [page.locator(".matrix").first(), page.locator(".matrix").nth(1)];
    const box = (matrix, mtrr, pat) => matrix.locator(`.box[aria-label^="MTRR ${mtrr}, PAT ${pat}:"]`);
    // Up to 6.10 a guest's MTRRs count, and later ones ignore them.
    assert.equal(await box(old, "WT", "WT").textContent(), "WT");
    assert.match(await box(old, "UC", "WT").textContent(), /^UC/);
    assert.equal(await box(young, "UC", "WT").textContent(), "WT");
    assert.match(await box(young, "UC", "WT").getAttribute("class"), /departs/);
    assert.match(await box(young, "UC", "WT").getAttribute("aria-label"), /architecture UC/);
    await page.screenshot({ path: `${pictures}/matrix.png` });
    await box(young, "UC", "WT").click();
    await page.waitForSelector("#filter");
    assert.ok((await count(page)) > 0);
    await close();
  },

  async "two kernels are compared"() {
    const { page, close } = await open(report, "#/changes?from=0&to=1");
    const text = await page.textContent("main");
    assert.match(text, /Decided now: \d+ cells/);
    assert.match(text, /Pages seen otherwise/);
    assert.ok((await page.locator(".plain tbody tr").count()) > 0);
    await page.screenshot({ path: `${pictures}/changes.png` });
    await page.click("text=swap");
    await page.waitForFunction(() => document.querySelector("main").textContent.includes("Decided no more"));
    await close();
  },

  async "it is dark where that is wanted"() {
    const { page, close } = await open(report, "#/matrix?vm=non-coherent-dma", { colorScheme: "dark" });
    const light = () =>
      page.evaluate(() =>
        getComputedStyle(document.body)
          .backgroundColor.match(/\d+/g)
          .reduce((a, b) => a + Number(b), 0),
      );
    assert.ok((await light()) < 150);
    await page.screenshot({ path: `${pictures}/dark.png` });
    await page.click("#theme");
    assert.ok((await light()) > 600);
    await close();
  },

  async "a phone needs no scrolling sideways"() {
    for (const hash of [
      "#/",
      "#/matrix",
      "#/changes?from=0&to=1",
      "#/cells?q=",
      "#/cell/matrix/fresh@non-coherent-dma?side=0",
      "#/about",
    ]) {
      const { page, close } = await open(report, hash, {
        viewport: { width: 390, height: 844 },
        isMobile: true,
        deviceScaleFactor: 2,
      });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(wide <= 390, `${hash} is ${wide} px wide`);
      if (hash === "#/matrix") await page.screenshot({ path: `${pictures}/phone.png` });
      await close();
    }
  },

  async "paper has all of a list, and no buttons"() {
    const { page, close } = await open(report, "#/cells?q=family%3Dmemtype");
    const found = await count(page);
    await page.emulateMedia({ media: "print" });
    await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
    assert.equal(await page.locator(".row").count(), found);
    assert.equal(await page.isVisible("#nav"), false);
    assert.ok((await page.pdf()).length > 10_000);
    await close();
  },

  async "without scripts there is a sum"() {
    const { page, close } = await open(report, "", { javaScriptEnabled: false });
    assert.match(await page.textContent("main"), /memtype.*\d+/s);
    assert.ok(await page.isVisible("main table"));
    await close();
  },

  async "what a guest says stays text"() {
    for (const hash of [
      "#/",
      "#/cells?q=",
      "#/about",
      "#/cell/%3Cimg%20src=x%20onerror=alert(1)%3E",
      "#/cells?q=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E",
    ]) {
      const { page, close } = await open(hostile, hash);
      await page.waitForTimeout(50);
      assert.equal(await page.locator("img").count(), 0, hash);
      assert.equal(await page.locator("script").count(), 1, hash);
      if (hash === "#/") assert.match(await page.textContent("main"), /<\/script><img/);
      await close();
    }
    const { page, close } = await open(hostile, "", { javaScriptEnabled: false });
    assert.equal(await page.locator("img").count(), 0);
    await close();
  },

  async "very many cells are quick"() {
    const { page, close } = await open(big, "#/");
    const paint = await page.evaluate(
      () =>
        new Promise((done) => {
          new PerformanceObserver((list) => done(list.getEntries().at(-1).startTime)).observe({
            type: "paint",
            buffered: true,
          });
        }),
    );
    const shown = await page.evaluate(() => performance.getEntriesByName("shown")[0].startTime);
    await page.evaluate(() => (location.hash = "#/cells?q="));
    await page.waitForSelector("#filter");
    const all = await count(page);
    const took = [];
    for (const query of [
      "mtrr=uc pat=wc verdict!=pass",
      "seen=wb asked=no",
      "verdict=xfail",
      "reason~quirk",
      "memtype/pat",
      "",
    ]) {
      // From the change of the filter to the frame that shows what it found.
      took.push(
        await page.evaluate(
          (query) =>
            new Promise((done) => {
              const [input, began] = [document.getElementById("filter"), performance.now()];
              input.value = query;
              input.dispatchEvent(new Event("input"));
              requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)));
            }),
          query,
        ),
      );
    }
    await page.evaluate(() => scrollTo(0, document.body.scrollHeight / 2));
    await page.waitForFunction(() => document.querySelectorAll(".row").length > 5);
    assert.ok((await page.locator(".row").count()) < 200, "the list has rows that nobody sees");
    const ms = (time) => `${Math.round(time)} ms`;
    console.log(
      `${all} cells: first paint after ${ms(paint)}, shown after ${ms(shown)}, filter changes ${took.map(ms).join(", ")}`,
    );
    await close();
  },
};

/** The number of cells that the filter found. */
async function count(page) {
  const text = await page.textContent("#found");
  return Number(/^[\d,]+/.exec(text)[0].replaceAll(",", ""));
}

for (const [name, test] of Object.entries(tests)) {
  try {
    await test();
    console.log(`ok: ${name}`);
  } catch (error) {
    console.log(`FAILED: ${name}\n${error.stack}`);
    process.exitCode = 1;
  }
}
await browser.close();
