package hclspec

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// TestManyValues gives each function and each kind of loop five thousand values, just below where those that compare
// each with each are refused; with PGKEEP_ROUNDS ten thousand too, and the thirty thousand that files can hold.
func TestManyValues(t *testing.T) {
	giveMany(t, 5000)
	if os.Getenv("PGKEEP_ROUNDS") != "" {
		giveMany(t, 10000)
		giveMany(t, 30000)
	}
}

func giveMany(t *testing.T, many int) {
	t.Helper()
	var list, object strings.Builder
	for n := range many {
		fmt.Fprintf(&list, "\"k%d\",", n)
		fmt.Fprintf(&object, "k%d=%d\n", n, n)
	}
	for _, e := range manyValues() {
		source := "locals {\n r = " + e + "\n a = [" + list.String() + "]\n}\n"
		if strings.Contains(e, "local.o") {
			source += "locals {\n o = {\n" + object.String() + "}\n}\n"
		}
		took := loadMany(t, e, source)
		for n := 0; n < 2 && took > mostTime; n++ {
			took = min(took, loadMany(t, e, source))
		}
		if took > mostTime {
			t.Errorf("%s took %s of %d values", e, took, many)
		}
	}
}

// loadMany loads a configuration that is right or too large. The machine may be busy, and the collector may run.
func loadMany(t *testing.T, e, source string) time.Duration {
	t.Helper()
	began, worked := time.Now(), processorTime(t)
	_, diags := Load(fstest.MapFS{"a.hcl": {Data: []byte(source)}}, ".", LoadOptions{})
	if len(diags) > 0 && diags[0].Summary != "The configuration computes too much" && diags[0].Subject == nil {
		t.Errorf("%s: %v", e, diags[0])
	}
	return min(time.Since(began), processorTime(t)-worked)
}

func manyValues() []string {
	return []string{
		`distinct(local.a)`, `sort(local.a)`, `compact(local.a)`, `reverse(local.a)`, `index(local.a, "z")`, `join(",", local.a)`, `formatlist("%s", local.a)`,
		`setunion(toset(local.a), toset(local.a))`, `setsubtract(local.a, local.a)`, `setintersection(local.a, local.a)`, `setproduct(toset(local.a))`,
		`setproduct(local.a, [1])`, `setproduct(toset(local.a), toset([1]))`, `length(toset(local.a))`, `[for x in toset(local.a) : x]`,
		`chunklist(local.a, 1)`, `flatten([local.a, local.a])`, `concat(local.a, local.a)`, `zipmap(local.a, local.a)`, `coalescelist(local.a, local.a)`,
		`coalesce(local.a...)`, `max([for i in local.a : 1]...)`, `merge([for i in local.a : { a = 1 }]...)`, `slice(local.a, 0, 20000)`, `element(local.a, 5)`,
		`lookup(local.o, "k1", 2)`, `keys(local.o)`, `values(local.o)`, `tomap(local.o)`, `merge(local.o, local.o)`, `local.a == local.a`,
		`true ? local.a : []`, `true ? local.o : {}`, `[for x in local.a : x if x != ""]`, `{ for x in local.a : x => x }`, `{ for x in local.a : "k" => x... }`,
		`jsonencode(local.a)`, `concat([for x in local.a : [x]]...)`, `setunion([for x in local.a : [x]]...)`, `local.a[*]`, `try(local.a...)`,
		`title(join(" ", local.a))`, `contains(local.a, "z")`, `regexall("k", join("", local.a))`, `split("k", join("", local.a))`,
		`replace(join("", local.a), "k", "")`, `regexall("(k+.*)*x", join("", local.a))`, `strrev(join("", local.a))`,
		`formatlist("%s", [for x in local.a : [x]])`, `[for x in local.a : { (x) = x }]`, `tolist([for x in local.a : { (x) = x }])`,
		`coalesce([for x in local.a : [x]]...)`, `distinct([for x in local.a : { a = x }])`, `toset([for x in local.a : { a = x }])`,
		`toset([for x in local.a : [x]])`, `tomap({ for x in local.a : x => { a = x } })`,
	}
}

// TestManyMentions uses one set many times: the library sorts it each time.
func TestManyMentions(t *testing.T) {
	var source strings.Builder
	source.WriteString("locals {\n s = toset([")
	for n := range 10000 {
		fmt.Fprintf(&source, "\"k%d\",", n)
	}
	source.WriteString("])\n")
	for n := range 50 {
		fmt.Fprintf(&source, "r%d = length(local.s)\n", n)
	}
	source.WriteString("}\n")
	took := loadMany(t, "length", source.String())
	for n := 0; n < 2 && took > mostTime; n++ {
		took = min(took, loadMany(t, "length", source.String()))
	}
	if took > mostTime {
		t.Errorf("it took %s", took)
	}
}
