package hclspec

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store/location"
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
		Address: i.address, Name: i.name, Path: text0(d, "path"), URL: text0(d, "url"), Host: text0(d, "host"), Where: d.where(),
		Compression: Compression{Algorithm: text0(c, "algorithm"), Level: int(get[int64](c, "level"))},
	}
	if r.Compression.Algorithm != "zstd" && r.Compression.Level > 9 {
		l.refuse("Invalid compression.level", mistake{fmt.Sprintf("%s has levels 1 to 9.", r.Compression.Algorithm), ""}, c.ranges["level"])
	}
	if lock := d.blocks["object_lock"]; lock.present {
		r.ObjectLock = ObjectLock{Mode: text0(lock, "mode"), Margin: get[time.Duration](lock, "margin")}
		l.checkLockable(&r, d, lock)
	}
	r.Encryption = l.encryption(d.blocks["encryption"])
	l.checkPlace(&r, d)
	return r, !d.broken && !d.blocks["encryption"].broken
}

// checkLockable refuses a lock where nothing can be locked.
func (l *loader) checkLockable(r *Repository, d, lock *decoded) {
	at, err := location.ParseURL(r.URL)
	why := ""
	switch {
	case d.broken || lock.broken || r.Path == "" && r.URL == "": // said already
	case r.Path != "":
		why = "A directory belongs to the users of its machine, and whoever may write to it may delete from it."
	case err != nil: // said already
	case at.Scheme == location.SFTP:
		why = "A directory that is reached by SSH belongs to who logs in there, and whoever may write to it may delete from it."
	}
	if why == "" {
		return
	}
	l.refuse("Nothing to lock with", mistake{why, "Lock a repository in S3, Google Cloud Storage or Azure; take object_lock out here."}, lock.at)
	d.broken = true
}

// checkPlace refuses a repository that is in no place, or in two.
func (l *loader) checkPlace(r *Repository, d *decoded) {
	switch {
	case d.broken: // what is wrong with one of the two is said already
	case r.Path == "" && r.URL == "":
		l.refuse("Missing place", mistake{r.Address + " does not say where it is.", "Add path = \"/srv/pgkeep\", or url = \"s3://bucket/prefix\"."}, d.where().Block)
		d.broken = true
	case r.Path != "" && r.URL != "":
		l.refuse("Two places", mistake{r.Address + " has a path and a url.", "Keep one; a second place is a second repository block."}, r.Where.Of("url"))
		d.broken = true
	case r.URL != "" && r.Host != "":
		l.refuse("Invalid host", mistake{"A url is reached from every machine, so it belongs to none.", "Remove host."}, r.Where.Of("host"))
		d.broken = true
	}
}

// ground is a place that paths are below: a machine, or a bucket of a service.
type ground struct{ host, path string }

func (l *loader) groundOf(r Repository) ground {
	if r.URL == "" {
		return ground{l.onHost(r.Host), r.Path}
	}
	at, err := location.ParseURL(r.URL)
	if err != nil {
		return ground{r.URL, "/"} // refused already
	}
	if at.Scheme == location.SFTP {
		return ground{fmt.Sprintf("sftp://%s:%d", at.Host, at.Port), at.Path}
	}
	return ground{at.Scheme + " " + at.Endpoint + " " + at.Account + " " + at.Bucket, path.Join("/", at.Prefix)}
}

// checkApart refuses two repositories in one place, or one inside the other.
func (l *loader) checkApart(all []Repository) {
	at := map[ground]int{}
	for n, r := range all {
		here := l.groundOf(r)
		if before, ok := at[here]; ok {
			l.together(all[before], r)
			continue
		}
		at[here] = n
	}
	for n, r := range all {
		here := l.groundOf(r)
		for dir := path.Dir(here.path); dir != here.path && dir != "."; dir = path.Dir(dir) {
			if outer, ok := at[ground{here.host, dir}]; ok && outer != n {
				l.together(all[min(n, outer)], all[max(n, outer)])
				break
			}
			if dir == "/" {
				break
			}
		}
	}
}

func (l *loader) together(o, r Repository) {
	attr, what, where := "path", "directory", ", on the same machine"
	if r.URL != "" {
		attr, what, where = "url", "prefix", ""
	}
	hint := "Give each a " + what + " of its own."
	if o.At() == r.At() {
		hint = "Put ${each.key} into " + attr + ", so that each has a " + what + " of its own."
	}
	l.refuse("Two repositories in one place", mistake{
		fmt.Sprintf("%s lies in %s, and %s in %s%s.", r.Address, r.Location(), o.Address, o.Location(), where), hint,
	}, r.At())
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

// repositoryURL is where a store of a provider is.
func repositoryURL() kind {
	return kind{name: "URL", pattern: "^(s3|gs|azblob|sftp)://", read: readText(passing(checkURL)), refused: []refusal{
		{"no driver of that scheme", `"s4://bucket"`},
		{"holds credentials", `"s3://bucket?secret_key=x"`},
		{"an option that the scheme does not have", `"s3://bucket?regoin=eu"`},
		{"no name of a bucket, or no absolute path of a host", `"sftp://host"`},
	}}
}

func checkURL(s string) error {
	if !location.IsURL(s) {
		return mistake{quote(s) + " is no URL.", `Write it as in "s3://bucket/prefix"; a directory of this machine goes into path.`}
	}
	_, err := location.ParseURL(s)
	var e *location.Error
	if !errors.As(err, &e) {
		return err
	}
	hint := e.Hint
	if near := nearest(e.Word, e.Known); near != "" && e.Word != "" {
		hint = fmt.Sprintf("Did you mean %q?", near)
	}
	return mistake{e.Text, hint}
}
