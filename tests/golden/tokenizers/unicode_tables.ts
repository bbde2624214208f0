// The sets of lib/tokenizer/unicode.ts from what unicode.py found:  deno run -R unicode_tables.ts scan.json
const res = JSON.parse(Deno.readTextFileSync(Deno.args[0]));
type R=[number,number][];
const set=(r:R)=>{const s=new Set<number>();for(const[a,b]of r)for(let c=a;c<=b;c++)s.add(c);return s;};
const ranges=(s:Set<number>)=>{const o:R=[];for(const c of[...s].sort((a,b)=>a-b)){const l=o.at(-1);if(l&&l[1]===c-1)l[1]=c;else o.push([c,c]);}return o;};
const enc=(r:R)=>{let p=0;return r.map(([a,b])=>{const t=(a-p).toString(36)+(b>a?"+"+(b-a).toString(36):"");p=b;return t;}).join(" ");};
const ws=/\p{White_Space}/u;
const control=new Set([...set(res["bert:control"])].filter(c=>!ws.test(String.fromCodePoint(c))||[0xb,0xc,0x85].includes(c)));
const opaque=new Set<number>();
for(let c=0;c<0x110000;c++){if(c>=0xd800&&c<=0xdfff)continue;const s=String.fromCodePoint(c);
 for(const k of["NFD","NFKD","NFC","NFKC"]){const p=res["map:"+k.toLowerCase()][c]??s;if(p!==s.normalize(k)){opaque.add(c);if(k==="NFD")opaque.add(s.normalize("NFD").codePointAt(0)!);}}
 const j=("a\u0345"+s+"\u0334").normalize("NFD");const p=res.ccc[c]??("a\u0345"+(res["map:nfd"][c]??s)+"\u0334");if(j!==p)opaque.add(c);}
const T={PUNCTUATION:set(res["bert:punct"]),NONSPACING_MARKS:set(res["bert:mn"]),COMBINING_MARKS:set(res["stripaccents"]),CONTROL:control,LATER_THAN_NORMALIZATION:opaque};
for (const [name, found] of Object.entries(T)) console.log(name, enc(ranges(found)));
