"""What tokenizers (Rust) 0.23 knows of each character, as scan.json for unicode_tables.ts:  python unicode.py > scan.json"""
import json, sys
from tokenizers import normalizers as N, pre_tokenizers as P
cps=[c for c in range(0x110000) if not 0xD800<=c<=0xDFFF]
allc=''.join(map(chr,cps))
def ranges(s):
    out=[];prev=None
    for c in sorted(s):
        if prev is not None and c==prev+1: out[-1][1]=c
        else: out.append([c,c])
        prev=c
    return out
res={}
chunks=[cps[i:i+4096] for i in range(0,len(cps),4096)]
def removed(norm):
    s=set()
    for ch in chunks:
        t=''.join(map(chr,ch)); r=norm.normalize_str(t); 
        s|=set(ch)-set(map(ord,r))
    return s
res['bert:control']=ranges(removed(N.BertNormalizer(clean_text=True,handle_chinese_chars=False,strip_accents=False,lowercase=False)))
res['stripaccents']=ranges(removed(N.StripAccents()))
def pieces(pt,keep):
    s=set()
    for c in cps:
        r=pt.pre_tokenize_str('a'+chr(c))
        if keep(r): s.add(c)
    return s
res['bert:punct']=ranges(pieces(P.Punctuation(),lambda r:len(r)==2))
res['digits']=ranges(pieces(P.Digits(individual_digits=True),lambda r:len(r)==2))
res['word']=ranges(pieces(P.Whitespace(),lambda r:len(r)==1 and len(r[0][0])==2))
res['ws']=ranges(pieces(P.WhitespaceSplit(),lambda r:len(r)==1 and r[0][0]=='a'))
b=N.BertNormalizer(clean_text=False,handle_chinese_chars=False,strip_accents=True,lowercase=False)
res['bert:mn']=ranges([c for c in cps if b.normalize_str('a'+chr(c))=='a'])
def maps(n):
    out={}
    for c in cps:
        r=n.normalize_str(chr(c))
        if r!=chr(c): out[c]=r
    return out
for name,n in [('nfc',N.NFC()),('nfd',N.NFD()),('nfkc',N.NFKC()),('nfkd',N.NFKD()),('lower',N.Lowercase()),('nmt',N.Nmt())]:
    res['map:'+name]={str(k):v for k,v in maps(n).items()}
# combining class: c moves before U+0315 (232) / after? record normalized of a 0345(240) c 0334(1)
nfd=N.NFD()
res['ccc']={str(c):nfd.normalize_str('a\u0345'+chr(c)+'\u0334') for c in cps if nfd.normalize_str('a\u0345'+chr(c)+'\u0334')!='a\u0345'+nfd.normalize_str(chr(c))+'\u0334'}
json.dump(res, sys.stdout)
