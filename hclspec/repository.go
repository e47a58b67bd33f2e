package hclspec

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

func (l *loader) buildRepositories() []Repository {
	var out []Repository
	for _, label := range sortedKeys(l.repositories) {
		b := l.repositories[label]
		if _, ok := l.declaredValue(b); !ok {
			continue
		}
		for n := range b.instances {
			if r, ok := l.repository(b, &b.instances[n]); ok {
				out = append(out, r)
			}
		}
	}
	slices.SortFunc(out, func(a, b Repository) int { return strings.Compare(a.Address, b.Address) })
	l.checkApart(out)
	return out
}

// repository decodes one instance; false: something in it was refused.
func (l *loader) repository(b *declared, i *instance) (Repository, bool) {
	schema := repositoryBlock()
	d := l.decode(&schema, b.block.Body, b.block.DefRange, i)
	c := d.blocks["compression"]
	r := Repository{
		Address: i.address, Name: i.name, Path: text0(d, "path"), Host: text0(d, "host"), Where: d.where(),
		Compression: Compression{Algorithm: text0(c, "algorithm"), Level: int(get[int64](c, "level"))},
	}
	if r.Compression.Algorithm != "zstd" && r.Compression.Level > 9 {
		l.refuse("Invalid compression.level", mistake{fmt.Sprintf("%s has levels 1 to 9.", r.Compression.Algorithm), ""}, c.ranges["level"])
	}
	return r, !d.broken
}

// checkApart refuses two repositories in one directory, or one inside the other.
func (l *loader) checkApart(all []Repository) {
	type spot struct{ host, path string }
	at := map[spot]int{}
	for n, r := range all {
		here := spot{l.onHost(r.Host), r.Path}
		if before, ok := at[here]; ok {
			l.together(all[before], r)
			continue
		}
		at[here] = n
	}
	for n, r := range all {
		for dir := path.Dir(r.Path); dir != "/" && dir != "."; dir = path.Dir(dir) {
			if outer, ok := at[spot{l.onHost(r.Host), dir}]; ok {
				l.together(all[min(n, outer)], all[max(n, outer)])
				break
			}
		}
	}
}

func (l *loader) together(o, r Repository) {
	hint := "Give each a directory of its own."
	if o.Where.Of("path") == r.Where.Of("path") {
		hint = "Put ${each.key} into path, so that each has a directory of its own."
	}
	l.refuse("Two repositories in one place", mistake{
		fmt.Sprintf("%s lies in %s, and %s in %s, on the same machine.", r.Address, r.Path, o.Address, o.Path), hint,
	}, r.Where.Of("path"))
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
