import re,sys
def load(f):
    d={}
    for l in open(f):
        m=re.match(r'\s*([\d,]+)\s*\(\s*[\d.]+%\)\s+(.*)',l)
        if m:
            k=re.sub(r' \[.*','',m[2]).split(':')[-1].strip(); d[k]=d.get(k,0)+int(m[1].replace(',',''))
    return d
per={}
for nm in ('base','main'):
    a,b=load(f'/tmp/w/cga.{nm}.1000'),load(f'/tmp/w/cga.{nm}.4000')
    per[nm]={k:(b.get(k,0)-a.get(k,0))/3000 for k in set(a)|set(b)}
ks=set(per['base'])|set(per['main'])
rows=sorted(((per['main'].get(k,0)-per['base'].get(k,0),k) for k in ks),key=lambda r:-abs(r[0]))
for d,k in rows[:45]: print(f"{d:10.0f} {per['base'].get(k,0):10.0f} {per['main'].get(k,0):10.0f} {k}")
print(sum(per['base'].values()),sum(per['main'].values()))
