package hclspec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestSecretIsNotShown prints a secret in every way that a log or error would.
func TestSecretIsNotShown(t *testing.T) {
	s := Server{Name: "a", Conninfo: NewSecret("canary")}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%v %+v %#v %s %q %x %d %T", s, s, s, s.Conninfo, s.Conninfo, s.Conninfo, s.Conninfo, s)
	fmt.Fprint(&b, &s, []Server{s}, s.Conninfo, &s.Conninfo, fmt.Errorf("%v", s.Conninfo))
	if err := json.NewEncoder(&b).Encode(s); err != nil {
		t.Fatal(err)
	}
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "s", s, "c", s.Conninfo)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "s", s, "c", s.Conninfo, "p", &s)
	if strings.Contains(b.String(), "canary") || strings.Contains(b.String(), fmt.Sprintf("%x", "canary")) {
		t.Errorf("shown:\n%s", b.String())
	}
	if s.Conninfo.Reveal() != "canary" {
		t.Error("Reveal does not give it")
	}
}

// hostile are pieces that must reach no name.
func hostile() []string {
	bad := []string{
		"a'; touch /tmp/x #", "a\nb", "$(touch /tmp/x)", "`id`", "\u202eevil", "a\x00b", "-rf", "%p", "..", ".", "/", "a/b", "a\\b", "", " ", "a b",
		"A", "Ä", "a.b", "a\tb", "a;b", "a|b", "a&b", "a>b", "a<b", "a*b", "a?b", "a[b", "a]b", "a{b", "a}b", "a~b", "a!b", "a#b", "a%b", "a=b", "a,b",
		"a:b", "a@b", "a+b", "a\"b", "a'b", "_a", "\u2028", "a\u200bb", "é", "😀", strings.Repeat("a", 64), strings.Repeat("a", 100000), "con:", "a\rb", "\x1b[31m",
	}
	for n := 0; len(bad) < 200; n++ {
		bad = append(bad, fmt.Sprintf("x%c%d", rune(n%32+0x7f), n), fmt.Sprintf("%cx%d", "-_./%$`'\";|&"[n%12], n))
	}
	return bad
}

// TestNamesAreAllowed tries two hundred hostile names wherever a name can be given.
func TestNamesAreAllowed(t *testing.T) {
	for _, good := range []string{"a", "0", "orders", "a-b_c9", strings.Repeat("a", 63)} {
		if err := CheckName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range hostile() {
		if CheckName(bad) == nil {
			t.Errorf("%q is let in as a name", bad)
		}
		if checkSlot(bad) == nil && !slotName.MatchString(bad) {
			t.Errorf("%q is let in as a slot", bad)
		}
		q, _ := json.Marshal(bad)
		quoted := strings.NewReplacer("${", "$${", "%{", "%%{", `\u0000`, "").Replace(string(q))
		src := fmt.Sprintf("repository %s {\n path = \"/srv/x\"\n}\n", quoted)
		if _, diags := Load(fstest.MapFS{"a.hcl": {Data: []byte(src)}}, ".", LoadOptions{}); !diags.HasErrors() && bad != "a\x00b" {
			t.Errorf("%q is let in as a label", bad)
		}
	}
	for _, bad := range []string{"a\nrestore_command = 'x'", "a\x00", "\u202ea"} {
		if _, err := NewRecovery(RecoveryText{Name: bad, Path: "/x"}, nil); err == nil {
			t.Errorf("%q is let in as a restore point", bad)
		}
	}
}

// FuzzLoad loads anything: no panic, within a second, within 256 MiB.
func FuzzLoad(f *testing.F) {
	for _, src := range seeds(f, ".hcl") {
		f.Add(src)
	}
	b, err := os.ReadFile("testdata/complete.hcl")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(fuzzLoad(""))
}

// FuzzLoadJSON is FuzzLoad for the JSON syntax.
func FuzzLoadJSON(f *testing.F) {
	for _, src := range seeds(f, ".hcl") {
		if j, ok := inJSON(src, languageBlock()); ok {
			f.Add([]byte(j))
		}
	}
	for _, src := range seeds(f, ".hcl.json") {
		f.Add(src)
	}
	f.Fuzz(fuzzLoad(".json"))
}

// fuzzLoad loads within the bounds of one Load, and lets the whole process grow by no more than one Load may: memory that
// an earlier input made it take is not there for a later one.
func fuzzLoad(suffix string) func(*testing.T, []byte) {
	var start runtime.MemStats
	runtime.ReadMemStats(&start)
	return func(t *testing.T, src []byte) {
		loadHostile(t, src, suffix)
		var now runtime.MemStats
		runtime.ReadMemStats(&now)
		if n := int64(now.Sys) - int64(start.Sys); n > mostMemory {
			t.Errorf("the process grew by %d MiB", n>>20)
		}
	}
}

// seeds are the configurations of the stories in one of the syntaxes.
func seeds(f *testing.F, suffix string) [][]byte {
	names, _ := filepath.Glob("testdata/*.txtar")
	var out [][]byte
	for _, n := range names {
		a, err := txtar.ParseFile(n)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range a.Files {
			if strings.HasSuffix(file.Name, suffix) {
				out = append(out, file.Data)
			}
		}
	}
	return out
}

// The bounds of one Load. Where other work holds up the machine, the fastest of three counts.
const (
	mostTime   = time.Second
	mostMemory = 256 << 20
)

func loadHostile(t *testing.T, src []byte, suffix string) {
	t.Helper()
	took := loadOnce(t, src, suffix)
	for n := 0; n < 2 && took > mostTime; n++ {
		took = min(took, loadOnce(t, src, suffix))
	}
	if took > mostTime {
		t.Errorf("took %s", took)
	}
}

// loadOnce loads, draws what was said, and gives the time that both took together: the processor's where other processes
// hold this one up.
func loadOnce(t *testing.T, src []byte, suffix string) time.Duration {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began, worked := time.Now(), processorTime(t)
	files := fstest.MapFS{"a.hcl" + suffix: {Data: src}, "pgkeep.vars.hcl" + suffix: {Data: src[:len(src)/3]}}
	s, diags := Load(files, ".", LoadOptions{Version: "1"})
	if err := WriteDiagnostics(&bytes.Buffer{}, s.Files, diags, 80, true); err != nil {
		t.Fatal(err)
	}
	took := min(time.Since(began), processorTime(t)-worked)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4*mostMemory {
		t.Errorf("allocated %d MiB", n>>20)
	}
	if n := int64(after.Sys) - int64(before.Sys); n > mostMemory {
		t.Errorf("grew by %d MiB", n>>20)
	}
	return took
}

// processorTime is what this process used so far.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestBombs loads what was made to cost too much.
func TestBombs(t *testing.T) {
	wide := strings.Repeat("1,", 100_000)
	var doubling, numbers, many strings.Builder
	doubling.WriteString("locals {\n a0 = \"x\"\n b0 = [1, 1]\n")
	numbers.WriteString("locals {\n n0 = 1e100\n")
	for n := 1; n < 60; n++ {
		fmt.Fprintf(&doubling, " a%d = \"${local.a%d}${local.a%d}\"\n b%d = [local.b%d, local.b%d]\n", n, n-1, n-1, n, n-1, n-1)
		fmt.Fprintf(&numbers, " n%d = local.n%d * local.n%d\n s%d = \"${local.n%d}\"\n", n, n-1, n-1, n, n)
	}
	for n := range 20000 {
		fmt.Fprintf(&many, "x%d = local.x%d\n", n, n+1)
	}
	for name, src := range map[string]string{
		"wide":        "locals {\n a = [" + wide + "]\n b = [for x in local.a : [for y in local.a : x]]\n}",
		"doubling":    doubling.String() + "}",
		"numbers":     numbers.String() + "}",
		"chain":       "locals {\n" + many.String() + "}",
		"brackets":    "locals {\n a = " + strings.Repeat("[", 200_000) + "\n}",
		"lines":       "locals {\n a = (" + strings.Repeat("1 +\n\n", 60_000) + "1)\n}",
		"conditional": "locals {\n a = " + strings.Repeat("true ? 1 : ", 40_000) + "1\n}",
		"index":       "locals {\n a = local" + strings.Repeat("[b]", 100_000) + "\n}",
		"templates":   "locals {\n a = \"" + strings.Repeat("%{ if true }", 30_000) + "\"\n}",
		"blocks":      strings.Repeat("server \"a\" {\n", 30_000),
		"errors":      strings.Repeat("x = 1\n", 80_000),
		"names":       "locals {\n a = [" + strings.Repeat("x,", 100_000) + "]\n}",
		"json":        "locals {\n a = " + strings.Repeat("jsonencode(", 50) + "\"\\\"\"" + strings.Repeat(")", 50) + "\n}",
		"sets":        "locals {\n a = toset([" + strings.Repeat("\"x\",", 100_000) + "])\n b = tolist([" + strings.Repeat("1,", 30_000) + "])\n}",
		"mixed":       "locals {\n a = tolist([" + strings.Repeat("\"x\", 1, true,", 40_000) + "])\n}",
		"contains":    "locals {\n a = [" + strings.Repeat("\"x\",", 100_000) + "]\n b = contains(local.a, \"y\")\n c = distinct([" + strings.Repeat("{},[],", 20_000) + "])\n}",
		"types":       "variable \"a\" {\n type = list(any)\n default = [" + strings.Repeat("1,true,", 40_000) + "]\n}\nvariable \"b\" {\n type = list(list(any))\n default = [" + strings.Repeat("[1],[],", 20_000) + "]\n}",
		"splat":       "locals {\n a = [" + wide + "]\n b = local.a[*][*]\n c = [for x in local.a : local.a[*]]\n}",
	} {
		t.Run(name, func(t *testing.T) { loadHostile(t, []byte(src), "") })
	}
}

// TestBombsInJSON loads JSON that was made to cost too much.
func TestBombsInJSON(t *testing.T) {
	for name, src := range map[string]string{
		"brackets":   `{"locals": {"a": ` + strings.Repeat("[", 200_000) + `}}`,
		"objects":    strings.Repeat(`{"a":`, 100_000),
		"wide":       `{"locals": {"a": [` + strings.Repeat("1,", 200_000) + `1]}}`,
		"loops":      `{"locals": {"a": [` + strings.Repeat("1,", 90_000) + `1], "b": "${[for x in local.a : [for y in local.a : x]]}"}}`,
		"templates":  `{"locals": {"a": [` + strings.Repeat(`"${1}",`, 60_000) + `1]}}`,
		"nested":     `{"locals": {"a": "` + strings.Repeat("${[", 100_000) + `"}}`,
		"chain":      `{"locals": {"a": "${` + strings.Repeat("1 + ", 100_000) + `1}"}}`,
		"escapes":    `{"locals": {"a": "${` + strings.Repeat(`\"`, 100_000) + `}"}}`,
		"directives": `{"locals": {"a": "` + strings.Repeat("%{ if true }", 30_000) + `"}}`,
		"broken":     `{"locals": {"a": [` + strings.Repeat(`"${",`, 60_000) + `1]}}`,
		"lines":      strings.Repeat("\n", 500_000),
		"quotes":     strings.Repeat(`"`, 500_000),
		"numbers":    `{"locals": {"a": [` + strings.Repeat("1e99999,", 50_000) + `1]}}`,
		"digits":     `{"locals": {"a": ` + strings.Repeat("9", 500_000) + `}}`,
		"names":      `{` + strings.Repeat(`"x": 1,`, 60_000) + `"x": 1}`,
		"blocks":     `{"server": {` + strings.Repeat(`"a": {},`, 50_000) + `"a": {}}}`,
	} {
		t.Run(name, func(t *testing.T) { loadHostile(t, []byte(src), ".json") })
	}
}

// TestManyServers expands ten thousand instances, at a cost that grows no faster than their number: ten thousand may cost
// ten times what a quarter of them does, where four times would be linear and sixteen quadratic.
func TestManyServers(t *testing.T) {
	load := func(servers int) time.Duration {
		var b strings.Builder
		b.WriteString("locals {\n hosts = {\n")
		for n := range servers {
			fmt.Fprintf(&b, "  s%d = { host = \"10.0.0.%d\" }\n", n, n)
		}
		b.WriteString(" }\n}\nrepository \"main\" {\n path = \"/srv/x\"\n}\nserver \"orders\" {\n for_each = local.hosts\n conninfo = \"host=${each.value.host}\"\n repositories = [repository.main]\n}\n" +
			"retention \"r\" {\n servers = [server.orders]\n redundancy = 2\n}\n")
		began := processorTime(t)
		s, diags := Load(fstest.MapFS{"a.hcl": {Data: []byte(b.String())}}, ".", LoadOptions{})
		if len(diags) > 0 || len(s.Servers) != servers || len(s.Retentions[0].Servers) != servers {
			t.Fatal(drawn(t, s, diags))
		}
		return processorTime(t) - began
	}
	quarter := min(load(2500), load(2500))
	whole := min(load(10_000), load(10_000))
	t.Logf("2,500 servers: %s, 10,000: %s", quarter, whole)
	if whole > 10*quarter {
		t.Errorf("2,500 servers cost %s, and 10,000 cost %s", quarter, whole)
	}
}
