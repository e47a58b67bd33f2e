package hclspec

import (
	"fmt"
	"strings"
)

func (l *loader) buildRepositories() []Repository {
	var out []Repository
	schema := repositoryBlock()
	for _, label := range sortedKeys(l.repositories) {
		b := l.repositories[label]
		if _, ok := l.declaredValue(b); !ok {
			continue
		}
		d := l.decode(&schema, b.block.Body, b.block.DefRange, nil)
		c := d.blocks["compression"]
		r := Repository{
			Address: "repository." + label, Name: label, Path: text0(d, "path"), Host: text0(d, "host"), Where: d.where(),
			Compression: Compression{Algorithm: text0(c, "algorithm"), Level: int(get[int64](c, "level"))},
		}
		if r.Compression.Algorithm != "zstd" && r.Compression.Level > 9 {
			l.refuse("Invalid compression.level", mistake{fmt.Sprintf("%s has levels 1 to 9.", r.Compression.Algorithm), ""}, c.ranges["level"])
		}
		if !d.broken {
			l.checkApart(out, r)
			out = append(out, r)
		}
	}
	return out
}

// checkApart refuses two repositories in one directory, or one inside the other.
func (l *loader) checkApart(others []Repository, r Repository) {
	for _, o := range others {
		if l.onHost(o.Host) != l.onHost(r.Host) || !overlap(o.Path, r.Path) {
			continue
		}
		l.refuse("Two repositories in one place", mistake{
			fmt.Sprintf("%s lies in %s, and %s in %s, on the same machine.", r.Address, r.Path, o.Address, o.Path), "Give each a directory of its own.",
		}, r.Where.Of("path"))
	}
}

func (l *loader) onHost(name string) string {
	if name == "" {
		return l.o.Hostname
	}
	return name
}

// overlap says whether two clean paths are one, or one lies in the other.
func overlap(a, b string) bool {
	return a == b || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/")
}
