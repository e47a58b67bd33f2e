package hclspec

import (
	"slices"
	"time"

	"github.com/zclconf/go-cty/cty"
)

// databaseNames is a list of databases, each as pg_database has it.
func databaseNames() kind {
	check := func(s string) error {
		if s == "" || len(s) > 63 || checkPlain(s) != nil {
			return mistake{quote(s) + " cannot be the name of a database.", ""}
		}
		return nil
	}
	return listOf(matching("", check), "list of databases", refusal{"not the name of a database", `[""]`}, refusal{"twice the same", `["a", "a"]`})
}

// sortedDatabases gives the databases in one order, in which two recoveries of the same ones are alike.
func sortedDatabases(names []string) []string {
	out := slices.Clone(names)
	slices.Sort(out)
	return out
}

// setDatabases reads the databases of a command line.
func setDatabases(d *decoded, names []string, zone *time.Location) error {
	if len(names) == 0 {
		return nil
	}
	var list []cty.Value
	for _, name := range names {
		text, err := asWritten(name)
		if err != nil {
			return err
		}
		list = append(list, text)
	}
	v, err := databaseNames().read(cty.TupleVal(list), zone)
	if err == nil {
		d.values["databases"] = v
	}
	return err
}
