package basebackup

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/repository"
)

var relationPath = regexp.MustCompile(`^(global|base/\d+|pg_tblspc/\d+/PG_[0-9A-Za-z_]+/\d+)/\d+(_(fsm|vm|init))?(\.\d+)?$`)

// isMainFork tells whether a file of the data directory is of a relation's main fork.
func isMainFork(path string) bool {
	fork := relationPath.FindStringSubmatch(path)
	return fork != nil && fork[2] == ""
}

// isRelation tells whether a file of the data directory, named as in the manifest, is made of pages with checksums.
func isRelation(path string) bool { return relationPath.MatchString(path) }

// inspect checks one page as it passes. A page that fails is reported by its block number in the relation's fork.
func (t *taking) inspect(f *repository.File, block uint32, page []byte) {
	block += firstBlock(f.Path)
	if postgres.CheckPage(page, block, t.start.LSN) != postgres.PageBad {
		return
	}
	t.pages.add(inManifest(f.Folder, f.Path), block)
}

// firstBlock gives the block number at which a file such as "16384.2" begins.
func firstBlock(path string) uint32 {
	_, digits, ok := strings.Cut(path[strings.LastIndexByte(path, '/')+1:], ".")
	if !ok {
		return 0
	}
	n, err := strconv.ParseUint(digits, 10, 15)
	if err != nil {
		return 0
	}
	return uint32(n) * postgres.SegmentPages
}

// pageReport collects pages that failed, in bounded memory.
type pageReport struct {
	mu    sync.Mutex
	files map[string]*badFile
}

type badFile struct {
	count  int64
	blocks map[uint32]bool
}

const (
	maxBadFiles  = 1000
	maxBadBlocks = 1000
)

func (r *pageReport) add(path string, block uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.files == nil {
		r.files = map[string]*badFile{}
	}
	f := r.files[path]
	if f == nil {
		if len(r.files) == maxBadFiles {
			return
		}
		f = &badFile{blocks: map[uint32]bool{}}
		r.files[path] = f
	}
	if f.blocks[block] {
		return // another repository's stream saw it too
	}
	f.count++
	if len(f.blocks) < maxBadBlocks {
		f.blocks[block] = true
	}
}

// list gives the pages by path and block.
func (r *pageReport) list() []repository.DamagedPages {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []repository.DamagedPages
	for path, f := range r.files {
		d := repository.DamagedPages{Path: path, Count: f.count}
		for b := range f.blocks {
			d.Blocks = append(d.Blocks, b)
		}
		slices.Sort(d.Blocks)
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b repository.DamagedPages) int { return strings.Compare(a.Path, b.Path) })
	return out
}
