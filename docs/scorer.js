// The order of search results: a guide whose title has the word comes first. All but `score` is as in Sphinx.
var Scorer = {
  score: ([page, title, , , score]) => {
    const words = new URLSearchParams(location.search).get("q").toLowerCase().split(/\s+/);
    const isGuide = !page.startsWith("api") && words.some((word) => title.toLowerCase().includes(word));
    return score + (isGuide ? 20 : 0);
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
