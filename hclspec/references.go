package hclspec

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// resolve checks that what the traversal names exists, and gives its value. ok is false when it has none; it was
// reported then, here or where its own value failed.
func (l *loader) resolve(t hcl.Traversal, s scope) (root, name string, v cty.Value, ok bool) {
	root = t.RootName()
	at := t.SourceRange()
	if s.constant {
		l.fail("A constant is wanted", fmt.Sprintf("%s is not known here: only a constant can stand here.", spell(t)), l.quotesHint(t), &at)
		return root, "", v, false
	}
	known := []string{"var", "local", "repository", "server"}
	if s.varsOnly {
		known = known[:1]
	}
	if !contains(known, root) {
		l.unknownRoot(t, known, s)
		return root, "", v, false
	}
	name, nameAt := second(t)
	if name == "" {
		l.fail("A name is missing", fmt.Sprintf("%s stands for all of its kind, and one is wanted.", root), fmt.Sprintf("Write %s.NAME.", root), &at)
		return root, "", v, false
	}
	if !l.isDeclared(root, name) {
		what := map[string]string{"var": "variable", "local": "local value"}[root]
		if what == "" {
			what = root
		}
		l.missing(root+"."+name, "Unknown "+what, fmt.Sprintf("There is no %s %s.", what, quote(name)), l.otherName(root, name, l.names(root)), nameAt)
		return root, name, v, false
	}
	v, ok = l.valueOf(root, name)
	if d := l.declared(root)[name]; ok && d != nil && !l.checkInstance(t, d) {
		return root, name, v, false
	}
	return root, name, v, ok
}

func (l *loader) isDeclared(root, name string) bool {
	var ok bool
	switch root {
	case "var":
		_, ok = l.variables[name]
	case "local":
		_, ok = l.locals[name]
	case "repository":
		_, ok = l.repositories[name]
	case "server":
		_, ok = l.servers[name]
	}
	return ok
}

// names lists what is declared under a root.
func (l *loader) names(root string) []string {
	switch root {
	case "var":
		return sortedKeys(l.variables)
	case "local":
		return sortedKeys(l.locals)
	case "repository":
		return sortedKeys(l.repositories)
	}
	return sortedKeys(l.servers)
}

func (l *loader) valueOf(root, name string) (cty.Value, bool) {
	switch root {
	case "var":
		v := l.variables[name].value
		return v, v != cty.NilVal
	case "local":
		return l.localValue(name)
	case "repository":
		return l.declaredValue(l.repositories[name])
	}
	return l.declaredValue(l.servers[name])
}

// declared gives the blocks that expressions refer to under a root.
func (l *loader) declared(root string) map[string]*declared {
	switch root {
	case "server":
		return l.servers
	case "repository":
		return l.repositories
	}
	return nil
}

// checkInstance checks the key in server.orders["eu"].
func (l *loader) checkInstance(t hcl.Traversal, d *declared) bool {
	if len(t) < 3 {
		return true
	}
	key, at := step(t[2])
	address := d.kind + "." + d.label
	_, dotted := t[2].(hcl.TraverseAttr)
	switch attributes := []string{"address", "name"}; {
	case d.keyed:
	case contains(attributes, key):
		return true
	case dotted:
		l.fail("Unknown name", fmt.Sprintf("%s has the attributes address and name, and no %s.", address, quote(key)), didYouMean(address+".", nearest(key, attributes)), at)
		return false
	default:
		l.missing(address+"[]", "Not one of many", fmt.Sprintf("%s has no for_each, so it has no instance %s.", address, quote(key)), fmt.Sprintf("Write %s.", address), at)
		return false
	}
	if at == nil || d.keys[key] {
		return true
	}
	l.missing(fmt.Sprintf("%s[%q]", address, key), "Unknown instance", fmt.Sprintf("%s has no instance %s.", address, quote(key)), l.keyHint(d.kind, d, key), at)
	return false
}

// keyHint suggests a key that a block has.
func (l *loader) keyHint(root string, d *declared, key string) string {
	keys := sortedKeys(d.keys)
	if near := nearest(key, keys); near != "" {
		return fmt.Sprintf("Did you mean %s.%s[%q]?", root, d.label, near)
	}
	if len(keys) == 0 {
		return "Its for_each is empty."
	}
	return fmt.Sprintf("Its keys are %s.", listing(keys))
}

// unknownRoot explains a first word that is none of the roots: a typo, a forgotten prefix, or text without quotes.
func (l *loader) unknownRoot(t hcl.Traversal, known []string, s scope) {
	at := t.SourceRange()
	root := t.RootName()
	if root == "each" {
		l.fail("each is not known here", "each.key and each.value are known in a block with for_each.", "", &at)
		return
	}
	hint := didYouMean("", nearest(root, known))
	if hint == "" {
		hint = l.quotesHint(t)
	}
	l.fail("Unknown name", fmt.Sprintf("%s is not a name that an expression can begin with.", quote(root)), hint, &at)
}

// quotesHint helps with main for repository.main, and spool for "spool".
func (l *loader) quotesHint(t hcl.Traversal) string {
	root := t.RootName()
	for _, kind := range []string{"repository", "server", "local", "var"} {
		if l.isDeclared(kind, root) {
			return fmt.Sprintf("Did you mean %s.%s?", kind, root)
		}
	}
	if len(t) == 1 {
		return fmt.Sprintf("Text stands in quotes: %q.", root)
	}
	return ""
}

// otherName suggests a near name of the same kind, or the same name of another kind.
func (l *loader) otherName(root, name string, names []string) string {
	if near := nearest(name, names); near != "" {
		return fmt.Sprintf("Did you mean %s.%s?", root, near)
	}
	for _, other := range []string{"var", "local", "repository", "server"} {
		if other != root && l.isDeclared(other, name) {
			return fmt.Sprintf("Did you mean %s.%s?", other, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf("There is %s.", listing(names))
}

func didYouMean(prefix, near string) string {
	if near == "" {
		return ""
	}
	return fmt.Sprintf("Did you mean %s%s?", prefix, near)
}

// second gives the name after the first dot, also in the form server["orders"].
func second(t hcl.Traversal) (string, *hcl.Range) {
	if len(t) < 2 {
		return "", t.SourceRange().Ptr()
	}
	return step(t[1])
}

// step gives the name or key of one step; nil: it is neither, as in a splat.
func step(s hcl.Traverser) (string, *hcl.Range) {
	switch s := s.(type) {
	case hcl.TraverseAttr:
		return s.Name, s.SrcRange.Ptr()
	case hcl.TraverseIndex:
		if k, _ := s.Key.Unmark(); k.IsKnown() && !k.IsNull() && k.Type() == cty.String {
			return k.AsString(), s.SrcRange.Ptr()
		}
		if k := s.Key; k.IsKnown() && !k.IsNull() && k.Type() == cty.Number && !huge(k.AsBigFloat()) {
			return k.AsBigFloat().Text('f', -1), s.SrcRange.Ptr()
		}
	}
	return "", nil
}

// spell writes a traversal as it stands in the source.
func spell(t hcl.Traversal) string {
	var b strings.Builder
	b.WriteString(t.RootName())
	for _, s := range t[1:] {
		name, _ := step(s)
		if _, dotted := s.(hcl.TraverseAttr); dotted {
			b.WriteString("." + name)
		} else {
			b.WriteString("[" + quote(name) + "]")
		}
	}
	return b.String()
}

// listing names a few and counts the rest.
func listing(names []string) string {
	if len(names) > 8 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:8], ", "), len(names)-8)
	}
	return strings.Join(names, ", ")
}

func contains(all []string, one string) bool {
	for _, a := range all {
		if a == one {
			return true
		}
	}
	return false
}
